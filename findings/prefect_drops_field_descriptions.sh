#!/usr/bin/env bash
# Prefect's form loses the description of a pydantic Field, and keeps its bounds.
#
# Versions    prefect 3.8.8, pydantic 2.14.3 (fastapi 0.150.0 and sqlalchemy 2.0.52, with which that Prefect works).
# Behaviour   A flow's parameter is annotated with Annotated[int, Field(description="Seed of the draw.", ge=0)].
#             prefect.utilities.callables.parameter_schema(flow) has "minimum": 0 and no description: the descriptions
#             are taken from a Google-style docstring ("Args:") alone, and a parameter that it does not name loses its own.
#             A numpydoc docstring ("Parameters" underlined) counts as none.
# Guess       The schema is pydantic's, so that the description arrives as the bound does: pydantic's own schema of a
#             model with the same field has both.
# Way round   An object in Annotated whose __get_pydantic_json_schema__ adds "description" to the schema.
# Output seen
#             bare: description None, minimum 0
#             google docstring: description 'From the docstring.', minimum 0
#             numpydoc docstring: description None, minimum 0
#             own schema: description 'Seed of the draw.', minimum None
#             pydantic's model: description 'Seed of the draw.', minimum 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prefect==3.8.8 pydantic==2.14.3 fastapi==0.150.0 sqlalchemy==2.0.52
cat > "$folder/forms.py" <<'PYTHON'
from typing import Annotated

from prefect import flow
from prefect.utilities.callables import parameter_schema
from pydantic import BaseModel, Field

Seed = Annotated[int, Field(description="Seed of the draw.", ge=0)]


class Text:
    def __get_pydantic_json_schema__(self, schema, handler):
        return handler(schema) | {"description": "Seed of the draw."}


@flow
def bare(seed: Seed = 0):
    pass


@flow
def google(seed: Seed = 0):
    """Draw.

    Args:
        seed: From the docstring.
    """


@flow
def numpydoc(seed: Seed = 0):
    """Draw.

    Parameters
    ----------
    seed : int
        From numpydoc.
    """


@flow
def own(seed: Annotated[int, Text()] = 0):
    pass


class Model(BaseModel):
    seed: Seed = 0


seen = {
    "bare": parameter_schema(bare).properties["seed"],
    "google docstring": parameter_schema(google).properties["seed"],
    "numpydoc docstring": parameter_schema(numpydoc).properties["seed"],
    "own schema": parameter_schema(own).properties["seed"],
    "pydantic's model": Model.model_json_schema()["properties"]["seed"],
}
for name, schema in seen.items():
    print(f"{name}: description {schema.get('description')!r}, minimum {schema.get('minimum')}")
expected = [None, "From the docstring.", None, "Seed of the draw.", "Seed of the draw."]
assert [schema.get("description") for schema in seen.values()] == expected
assert [schema.get("minimum") for schema in seen.values()] == [0, 0, 0, None, 0]
PYTHON
PREFECT_HOME="$folder/prefect" "$folder/venv/bin/python" "$folder/forms.py"
