#!/usr/bin/env bash
# MLflow's SQL registry does not keep the model_id that a version is created with.
#
# Versions    mlflow 3.17.2, with SQLite as its backend store.
# Behaviour   create_model_version(name, source, model_id=...) uses the identifier only to look up the run of the logged
#             model. The version that it returns, and that get_model_version and search_model_versions return later, has
#             model_id None, and the logged model gets no tag that names the version. The only link to the logged model
#             is the source, if that was given as models:/m-...
# Guess       The field model_id of a ModelVersion is the argument model_id of the call that created it.
# Use         Who needs the logged model of a version later writes its identifier into a tag of the version.
# Output seen
#             given: True, returned: None, read: None, found: [None], tags of the logged model: {}
#             run looked up from the logged model: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow==3.17.2
cat > "$folder/version.py" <<'PYTHON'
import logging

import mlflow
from mlflow import MlflowClient

logging.disable(logging.WARNING)
mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = MlflowClient()
run = client.create_run("0")
model = client.create_logged_model("0", name="model", source_run_id=run.info.run_id)
client.create_registered_model("registered")
source = f"models:/{model.model_id}"
returned = client.create_model_version("registered", source, model_id=model.model_id)
read = client.get_model_version("registered", returned.version)
found = client.search_model_versions("name='registered'")
tags = client.get_logged_model(model.model_id).tags
identifiers = returned.model_id, read.model_id, [version.model_id for version in found]
print("given: {}, returned: {}, read: {}, found: {}".format(bool(model.model_id), *identifiers), end=", ")
print("tags of the logged model:", tags)
print("run looked up from the logged model:", read.run_id == run.info.run_id)
assert model.model_id and identifiers == (None, None, [None]) and not tags
assert read.run_id == run.info.run_id
PYTHON
cd "$folder"
"$folder/venv/bin/python" version.py
