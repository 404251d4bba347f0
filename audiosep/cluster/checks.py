"""What a job with Ray cannot do: found before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from audiosep.cluster.workers import WorkerSettings
from audiosep.errors import InputError
from audiosep.inference.devices import device_of_engine, pick_device, pick_precision
from audiosep.output.output_options import OutputOptions
from audiosep.query.query import Query, unique_names
from audiosep.query.sounds import Sounds
from audiosep.weights.catalogue import locate
from audiosep.weights.model_config import stated_stems


def check_places(
    inputs: str | Path | Sequence[str | Path], folder: Path, device: str, workers: int | None, output: OutputOptions
) -> None:
    """Refuse what several processes cannot do.

    Args:
        inputs: as in `separate_with_ray`.
        folder: of the outputs.
        device: as in `separate_with_ray`.
        workers: as in `separate_with_ray`.
        output: as in `separate_with_ray`.

    Raises:
        InputError: says what to give instead.
    """
    items = [Path(item) for item in ([inputs] if isinstance(inputs, str | Path) else inputs)]
    if Path("-") in [folder, *items]:
        raise InputError("workers cannot use standard input and output: name files, and a folder for the outputs")
    if device.startswith("cuda:"):
        raise InputError(f"Ray gives each worker a GPU of its own: use device 'cuda', not {device!r}")
    if workers is not None and workers < 1:
        raise InputError(f"workers must be at least 1, got {workers}")
    if output.labels:
        raise InputError("workers write no label files: separate without Ray, or leave labels out")


def check_here(settings: WorkerSettings) -> None:
    """Refuse what no worker of this machine could do.

    Args:
        settings: of the job.

    Raises:
        ModelError: the model, or that of the stems, is not on this machine.
        InputError: a device or precision that this machine has not, or none of the targets is to be written.
    """
    folders = [locate(model) for model in (settings.model, settings.stems) if model is not None]
    pick_precision(settings.precision, pick_device(device_of_engine(settings.device, settings.engine)))
    labels = [query.label for query in settings.queries or ()]
    names = stated_stems(folders[-1]) if settings.queries is None else unique_names(labels)
    if names is not None:
        settings.output.written_targets(names)


def check_names(queries: Sequence[Query]) -> None:
    """Refuse sounds with names of the user's own, whose file other machines do not have, and spans of a recording.

    Args:
        queries: of the job.

    Raises:
        InputError: says what to give instead.
    """
    known = Sounds()
    for query in queries:
        if query.anchored:
            raise InputError("spans are times of one recording: separate it without Ray")
        if query.text is not None and query.text in known:
            raise InputError(
                f"{query.text!r} is a name of your own, which Ray's workers do not know: give a recording of the sound "
                "instead (--like FILE), or separate without Ray"
            )
        check_names(query.negatives)
