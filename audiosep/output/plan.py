"""Which files a batch reads and writes: found without torch, before a model is loaded."""

from __future__ import annotations

import hashlib
import logging
import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, partial
from itertools import chain, count
from pathlib import Path
from typing import NoReturn

from audiosep.atomic import linked, remove_leftovers
from audiosep.audio.inputs import check_file, is_pipe
from audiosep.audio.marker import fingerprint, origin_of
from audiosep.audio.video_formats import check_video
from audiosep.errors import AudioError, AudioSepError, InputError
from audiosep.output.batch_report import BatchReport, FinishedFile
from audiosep.output.names import STDOUT, check_out, earlier_outputs, folded_names, plan_outputs
from audiosep.output.output_options import OutputOptions
from audiosep.output.recordings import InputFile, find_recordings

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FileTask:
    """A recording to separate.

    Attributes:
        input: the recording; Path("-") for standard input.
        outputs: name -> file, in the order in which they are written.
        labels: name of an output -> the label file beside it.
        kept: names of outputs of an earlier run, which stay.
    """

    input: Path
    outputs: dict[str, Path]
    labels: dict[str, Path]
    kept: frozenset[str]


@dataclass(frozen=True)
class Plan:
    """What a batch will do.

    Attributes:
        targets: that are separated, in order.
        rest: the name of the output with what is left of the mixture; None where it is not written.
        tasks: the recordings to separate.
        skipped: recordings whose outputs exist.
        failures: path -> why it cannot be separated.
        works: name of an output -> the digest of what is asked for, for its mark.
    """

    targets: list[str]
    rest: str | None
    tasks: list[FileTask]
    skipped: list[FinishedFile]
    failures: dict[Path, Exception]
    works: Mapping[str, str]

    def report(self) -> BatchReport:
        """The report of the batch before any recording is separated."""
        return BatchReport(failures=dict(self.failures), skipped=list(self.skipped))

    def remove_leftovers(self) -> None:
        """Delete what killed processes left in the folders of the outputs."""
        outputs = [one.outputs for one in self.tasks] + [one.outputs for one in self.skipped]
        for folder in {linked(path).parent for paths in outputs for path in paths.values() if path != STDOUT}:
            remove_leftovers(folder)


def plan_batch(
    works: Mapping[str, str],
    inputs: str | Path | Sequence[str | Path],
    out_dir: str | Path,
    output: OutputOptions,
    *,
    stems: bool,
) -> Plan:
    """Find the recordings of a batch, and name their outputs.

    Args:
        works: name of each target that the model separates -> a digest of what is asked of it (`query.work_digest`).
        inputs: files, folders (searched with their subfolders), or "-" for standard input.
        out_dir: folder of the outputs; "-" for standard output.
        output: what is written.
        stems: whether the targets are a model's fixed stems.

    Raises:
        InputError: something that no file could be separated with.
    """
    folder = Path(out_dir)
    check_out(folder)
    targets = output.written_targets(list(works))
    rest = output.written_rest(targets, stems=stems, stdout=folder == STDOUT)
    written = output.written(targets, rest)
    if output.labels and folder == STDOUT:
        raise InputError("standard output carries no labels beside the sound: name a folder for the outputs")
    recordings, failures = find_recordings(inputs, folder)
    if folder == STDOUT and len(recordings) > 1:
        raise InputError(f"standard output carries one recording, not {len(recordings)}: name a folder for the outputs")
    shared = len(recordings) > len({recording.subfolder for recording in recordings})
    if shared and "{file" not in output.template:
        raise InputError(
            f"the template {output.template!r} names the outputs of {len(recordings)} recordings alike: put {{file}} "
            "into it"
        )
    plan = Plan(targets, rest, [], [], failures, works_of_outputs(works, targets, written))
    labelled = written if output.rest_only or output.tracks else targets
    paths = OutputPaths(folder, plan.works, output, recordings, labelled=labelled if output.labels else ())
    for recording in recordings:
        try:
            outputs = paths.of(recording)
            labels = paths.labels(outputs)
            kept = paths.kept(recording.path, outputs, list(labels.values()))
            if kept is None:
                plan.skipped.append(FinishedFile(recording.path, outputs))
                continue
            if not is_pipe(recording.path):
                check_file(recording.path)
            if output.video:
                check_video(recording.path)
        except AudioSepError as error:
            failures[recording.path] = error
            continue
        except OSError as error:
            failures[recording.path] = unseen(error)
            continue
        plan.tasks.append(FileTask(recording.path, outputs, labels, kept))
    if by_name := [one for one in plan.skipped if not all(map(paths.origin_of, one.outputs.values()))]:
        logger.warning(
            "left out by the names of their outputs, which do not say what they were separated from: %d, such as %s "
            "for %s (if they are of other recordings: overwrite=True, or another folder)",
            len(by_name),
            next(path for path in by_name[0].outputs.values() if paths.origin_of(path) is None),
            by_name[0].input,
        )
    return plan


class OutputPaths:
    """Where the outputs of a batch go: never onto an input or another output of the batch.

    Args:
        folder: of the outputs; Path("-") for standard output.
        works: name of each output of a recording -> the digest of what is asked for.
        output: format and template.
        recordings: all of the batch.
        taken: other files that are not free.
        labelled: names of the outputs that have a label file beside them.
    """

    def __init__(
        self,
        folder: Path,
        works: Mapping[str, str],
        output: OutputOptions,
        recordings: Iterable[InputFile],
        taken: Iterable[Path] = (),
        labelled: Sequence[str] = (),
    ) -> None:
        self._folder, self._works, self._output, self._labelled = folder, works, output, labelled
        self._originals = {os.path.realpath(recording.path) for recording in recordings}
        self._taken = set(map(_folded, taken))
        self._reached: dict[str, int] = {}  # number of the last recording of a name: thousands may share one
        self._passed: dict[str, list[int]] = defaultdict(list)  # numbers of a name that others have had in earlier runs
        self.origin_of, self._fingerprint, self._listed = cache(origin_of), cache(fingerprint), cache(folded_names)

    def of(self, recording: InputFile) -> dict[str, Path]:
        """Name -> path of each output of a recording.

        Of several recordings of one name (song.wav, song.flac) all but the first are numbered. A recording keeps its
        paths also when it fails, so that they depend on nothing but the inputs; with `skip_existing` also on the
        outputs of earlier runs, which stay those of the recordings that they say they are of: a number is of one
        recording, whatever was separated from it.

        Raises:
            AudioError: there are no free paths for it.
        """
        file = "stdin" if str(recording.path) == "-" else recording.path.stem
        folder = self._folder if self._folder == STDOUT else self._folder / recording.subfolder
        ending = recording.path.suffix[1:] if self._output.video else self._output.format
        plan = partial(
            plan_outputs, folder, list(self._works), file=file, format=ending, template=self._output.file_template
        )
        name = _folded(folder / file)
        reached, passed, before = self._reached.get(name, 1), self._passed[name], None
        own, foreign = self._earlier_numbers(recording.path, partial(earlier_outputs, folder, file=file, format=ending))
        first = [*dict.fromkeys([*own, *passed])]
        for number in chain(first, (number for number in count(reached) if number not in first)):
            paths = plan(number=number)
            # Of videos of two kinds the outputs differ in their suffixes, and the labels do not.
            files = [*paths.values(), *self.labels(paths).values()]
            taken = [path for path in files if _folded(path) in self._taken]
            others = [] if taken else [path for path in paths.values() if self._is_of_another(path, recording.path)]
            if not taken and not others and (number in own or number not in foreign):
                break
            if paths == before:
                raise AudioError(f"{[*taken, *others][0]} is for another input: put {{file}} into the template")
            if others and number not in passed:
                passed.append(number)
            before = paths
        self._reached[name] = max(number, reached)
        if folder == STDOUT:
            return paths
        for path in paths.values():
            if os.path.realpath(path) in self._originals:
                raise AudioError(f"{path} is an input of this job and would be overwritten: choose another folder")
        self._taken.update(map(_folded, files))
        return paths

    def labels(self, outputs: Mapping[str, Path]) -> dict[str, Path]:
        """Name of an output -> the label file beside it.

        Args:
            outputs: of a recording.
        """
        return {name: outputs[name].with_suffix(".txt") for name in self._labelled}

    def kept(self, recording: Path, outputs: Mapping[str, Path], labels: Sequence[Path] = ()) -> frozenset[str] | None:
        """The outputs of an earlier run that stay: with `skip_existing` no file is replaced.

        Args:
            recording: the file.
            outputs: of it.
            labels: the label files beside them.

        Returns:
            Their names; None where all files exist.

        Raises:
            AudioError: a file is in the way, because it is not what would be made now or does not say so.
        """
        existing = [path for path in (*outputs.values(), *labels) if path != STDOUT and path.exists()]
        if not existing or self._output.overwrite:
            return frozenset()
        if not self._output.skip_existing:
            raise AudioError(
                f"{existing[0]} exists already: choose another folder or template, overwrite=True or skip_existing=True"
            )
        kept = frozenset(name for name, path in outputs.items() if path in existing)
        whole = len(existing) == len(outputs) + len(labels)
        for name in sorted(kept):
            origin = self.origin_of(outputs[name])
            if origin is None and not whole:
                self._refuse(outputs[name], f"does not say that it is an output of {recording}")
            if origin is not None and origin.work != self._works[name]:
                self._refuse(outputs[name], "was made with other options or by another model")
        if len(kept) < len(outputs) and len(existing) > len(kept):
            self._refuse(next(path for path in existing if path in labels), f"may not be of {recording}")
        return None if whole else kept

    @staticmethod
    def _refuse(path: Path, why: str) -> NoReturn:
        raise AudioError(
            f"{path} exists already and {why}: move it, choose another folder or template, or overwrite=True"
        )

    def _earlier_numbers(
        self, recording: Path, earlier_outputs: Callable[..., dict[Path, int]]
    ) -> tuple[list[int], set[int]]:
        """The numbers that a recording has in the names of outputs of earlier runs, and those that others have."""
        if not self._output.skip_existing or self._folder == STDOUT:
            return [], set()
        earlier = earlier_outputs(template=self._output.file_template, listed=self._listed)
        origins = {path: origin for path in earlier if (origin := self.origin_of(path)) is not None}
        if not origins or (mine := self._fingerprint(recording)) is None:
            return [], set()
        own = sorted({earlier[path] for path, origin in origins.items() if origin.recording == mine})
        return own, {earlier[path] for path, origin in origins.items() if origin.recording != mine}

    def _is_of_another(self, output: Path, recording: Path) -> bool:
        """Whether an output of an earlier run, which is not made again, says that it is of another recording."""
        if not self._output.skip_existing or output == STDOUT or (origin := self.origin_of(output)) is None:
            return False
        return self._fingerprint(recording) not in (None, origin.recording)


def unseen(error: OSError) -> AudioError:
    """What is wrong with a folder of outputs whose files this user may not see.

    Args:
        error: of the look for a file.
    """
    return AudioError(f"{error.filename} ({error.strerror}): choose another folder")


def works_of_outputs(works: Mapping[str, str], targets: Sequence[str], outputs: Iterable[str]) -> dict[str, str]:
    """The digests of outputs: what is left of a mixture, and a stem file, depend on all targets that are written.

    Args:
        works: name of a target -> its digest.
        targets: that are written.
        outputs: names of the outputs.
    """
    whole = hashlib.sha256(" ".join(works[target] for target in targets).encode()).hexdigest()[:8]
    return {name: works.get(name, whole) for name in outputs}


def _folded(path: Path) -> str:
    """The same for paths that differ only in case, which are one file on some file systems."""
    return str(path).casefold()
