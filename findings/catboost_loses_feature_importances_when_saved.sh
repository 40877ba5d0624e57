#!/usr/bin/env bash
# A CatBoost model that was saved and loaded has `feature_importances_` of array(None).
#
# Versions    catboost 1.2.10, numpy 2.4.6, scikit-learn 1.9.1.
# Behaviour   `feature_importances_`, the attribute that scikit-learn's models have, is an array of the right shape after
#             `fit` and after pickling. After `save_model` and `load_model` it is a NumPy array of no dimensions that
#             holds None: no error, no warning, and `hasattr` is true. `get_feature_importance()` computes the values
#             from the trees, and from then on the attribute has them too.
# Guess       The trees hold all that is needed, so the attribute is computed from them, or it is an AttributeError.
#             `SelectFromModel(loaded, prefit=True)`, which reads it, fails with a TypeError.
# Way round   Call `get_feature_importance()`.
# Output seen
#             fitted: float64, 3 values, the largest is that of column 1
#             pickled: float64, 3 values, the largest is that of column 1
#             loaded: array(None, dtype=object)
#             SelectFromModel: TypeError
#             get_feature_importance(): as fitted
#             loaded, then: float64, 3 values, the largest is that of column 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet catboost==1.2.10 numpy==2.4.6 scikit-learn==1.9.1
cd "$folder"
cat > importances.py <<'PYTHON'
import pickle

import numpy as np
from catboost import CatBoostClassifier
from sklearn.feature_selection import SelectFromModel

rng = np.random.default_rng(0)
X = rng.normal(size=(200, 3))
y = (X[:, 1] + 0.2 * X[:, 0] > 0).astype(int)
fitted = CatBoostClassifier(iterations=5, verbose=False, allow_writing_files=False).fit(X, y)


def describe(name, values):
    print(f"{name}: {values.dtype}, {values.size} values, the largest is that of column {values.argmax()}")


describe("fitted", fitted.feature_importances_)
describe("pickled", pickle.loads(pickle.dumps(fitted)).feature_importances_)
fitted.save_model("model.cbm")
loaded = CatBoostClassifier().load_model("model.cbm")
print(f"loaded: {loaded.feature_importances_!r}")
try:
    SelectFromModel(loaded, prefit=True, threshold="mean").transform(X)
except Exception as error:
    print(f"SelectFromModel: {type(error).__name__}")
is_same = np.allclose(loaded.get_feature_importance(), fitted.feature_importances_)
print(f"get_feature_importance(): {'as fitted' if is_same else 'other values'}")
describe("loaded, then", loaded.feature_importances_)
PYTHON
venv/bin/python importances.py | tee seen
diff seen - <<'SEEN'
fitted: float64, 3 values, the largest is that of column 1
pickled: float64, 3 values, the largest is that of column 1
loaded: array(None, dtype=object)
SelectFromModel: TypeError
get_feature_importance(): as fitted
loaded, then: float64, 3 values, the largest is that of column 1
SEEN
