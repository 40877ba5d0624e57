#!/usr/bin/env bash
# Loading a logged model from a local MLflow store changes a file of the model in that store.
#
# Versions    mlflow 3.17.2 (3.18.0 no longer writes the file at all: code that read it finds none).
# Behaviour   The folder of a local store is not copied when its model is loaded. MLflow adds `registered_model_meta` to
#             the folder it loads from, which is the store's own: name and version if the address was models:/NAME/1, and
#             nulls if it was models:/m-ID. A file of that name which had been logged with the model is overwritten.
# Guess       Loading reads. The file that MLflow adds is in a downloaded copy, and a logged model does not change.
# Use         Whoever compares checksums of logged models leaves this file out. Who wants a model to know its registered
#             version logs it in a file with another name.
# Output seen
#             logged: {'model_name': 'mine', 'model_version': '7'}
#             loaded by id: {'model_name': None, 'model_version': None}
#             loaded by version: {'model_name': 'echo', 'model_version': '1'}
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet mlflow==3.17.2
cat > "$folder/load.py" <<'PYTHON'
import sys
from pathlib import Path

import mlflow
import yaml

NAME = "registered_model_meta"


class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return model_input


mlflow.set_tracking_uri(f"sqlite:///{Path('mlflow.db').resolve()}")
with mlflow.start_run():
    info = mlflow.pyfunc.log_model(name="echo", python_model=Echo(), pip_requirements=["mlflow"])
client = mlflow.MlflowClient()
client.create_registered_model("echo")
client.create_model_version("echo", info.model_uri, model_id=info.model_id)
Path(NAME).write_text(yaml.safe_dump({"model_name": "mine", "model_version": "7"}))
client.log_model_artifact(info.model_id, NAME)
[stored] = Path("mlruns").rglob(NAME)

seen = [f"logged: {yaml.safe_load(stored.read_text())}"]
mlflow.pyfunc.load_model(info.model_uri)
seen.append(f"loaded by id: {yaml.safe_load(stored.read_text())}")
mlflow.pyfunc.load_model("models:/echo/1")
seen.append(f"loaded by version: {yaml.safe_load(stored.read_text())}")
print("\n".join(seen))
expected = [
    "logged: {'model_name': 'mine', 'model_version': '7'}",
    "loaded by id: {'model_name': None, 'model_version': None}",
    "loaded by version: {'model_name': 'echo', 'model_version': '1'}",
]
sys.exit(seen != expected)
PYTHON
cd "$folder"
"$folder/venv/bin/python" load.py 2> "$folder/log" || { cat "$folder/log" >&2; exit 1; }
