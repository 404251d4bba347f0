"""An HTTP service that separates uploads one after the other, with a bounded queue, progress, cancelling and limits.

    pip install starlette uvicorn python-multipart
    python examples/service.py --port 8000

    curl -F file=@street.wav -F query=speech -F query="dog barking" http://127.0.0.1:8000/jobs    # {"id": "f3c9", ...}
    curl http://127.0.0.1:8000/jobs/f3c9                        # {"state": "running", "progress": 0.4, ...}
    curl -O http://127.0.0.1:8000/jobs/f3c9/speech              # the sound, as FLAC
    curl -X DELETE http://127.0.0.1:8000/jobs/f3c9              # cancels it and deletes its files

A request beyond the queue is refused with 503 instead of waiting forever. For several processes start it several
times, each with `--threads` of its share of the cores, behind a proxy that keeps a client with its process.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

import audiosep

_BLOCK = 1 << 20  # bytes of an upload that are copied at once


@dataclass(frozen=True)
class Limits:
    """What the service takes.

    Args:
        waiting: jobs that wait, besides the one that runs.
        upload: bytes of a recording.
        seconds: length of a recording.
        queries: sounds of a job.
        uploading: seconds that an upload may take; it holds a place meanwhile.
        time: seconds that a job may run.
        keep: seconds for which the files of a finished job are kept.
        kept: finished jobs whose files are kept; the oldest go first.
    """

    waiting: int = 8
    upload: int = 200 * 2**20
    seconds: float = 1200.0
    queries: int = 8
    uploading: float = 300.0
    time: float = 600.0
    keep: float = 3600.0
    kept: int = 64


@dataclass
class Job:
    """One upload and what became of it.

    Attributes:
        id: that cannot be guessed.
        folder: of its files, deleted with it.
        queries: the sounds.
        state: waiting, running, done, failed or cancelled.
        progress: 0 to 1.
        outputs: name of a sound -> its file.
        error: why it failed.
        ended: when, by `time.monotonic`; None before.
        cancelled: whether it is to end.
    """

    id: str
    folder: Path
    queries: list[str]
    state: str = "waiting"
    progress: float = 0.0
    outputs: dict[str, Path] = field(default_factory=dict)
    error: str | None = None
    ended: float | None = None
    cancelled: bool = False


class Service:
    """Jobs, one after the other, with one model.

    Args:
        separator: the model, kept in memory.
        limits: what is taken.
    """

    def __init__(self, separator: audiosep.Separator, limits: Limits = Limits()) -> None:
        self._separator, self._limits = separator, limits
        self._worker = ThreadPoolExecutor(max_workers=1)
        self._jobs: dict[str, Job] = {}
        self._futures: dict[str, Future[None]] = {}
        self._root = Path(tempfile.mkdtemp(prefix="audiosep-service-"))
        self.app = Starlette(
            routes=[
                Route("/jobs", self.submit, methods=["POST"]),
                Route("/jobs/{id}", self.show, methods=["GET"]),
                Route("/jobs/{id}", self.cancel, methods=["DELETE"]),
                Route("/jobs/{id}/{name:path}", self.download, methods=["GET"]),
                Route("/health", self.health, methods=["GET"]),
            ],
            lifespan=self._lifespan,
        )

    async def submit(self, request: Request) -> Response:
        """Take an upload: 202 with the job, 400, 408, 411 and 413 for what is not taken, 503 when too many wait."""
        self._forget_old()
        if "content-length" not in request.headers:  # else it would be on the disk before its size is known
            return _refuse(411, "uploads state their length")
        if sum(job.state in ("waiting", "running") for job in self._jobs.values()) > self._limits.waiting:
            return _refuse(503, "too many recordings wait: try again later", {"Retry-After": "10"})
        if int(request.headers["content-length"]) > self._limits.upload + _BLOCK:
            return _refuse(413, f"recordings have at most {self._limits.upload >> 20} MiB")
        # A place is taken before the upload is read, so that slow uploads count as well.
        job = Job(secrets.token_urlsafe(16), Path(tempfile.mkdtemp(dir=self._root)), [])
        self._jobs[job.id] = job
        try:
            async with asyncio.timeout(self._limits.uploading):
                problem = await self._receive(request, job)
        except TimeoutError:
            problem = _refuse(408, f"the upload took more than {self._limits.uploading:.0f} s")
        except ClientDisconnect:
            problem = Response(status_code=204)  # nobody reads it
        except BaseException:
            self._delete(job)
            raise
        if problem is not None:
            self._delete(job)
            return problem
        self._futures[job.id] = self._worker.submit(self._separate, job)
        return JSONResponse(self._about(job), 202, {"Location": f"/jobs/{job.id}"})

    async def show(self, request: Request) -> Response:
        """What has become of a job."""
        job = self._jobs.get(request.path_params["id"])
        return _refuse(404, "there is no such job") if job is None else JSONResponse(self._about(job))

    async def cancel(self, request: Request) -> Response:
        """End a job and delete its files."""
        job = self._jobs.get(request.path_params["id"])
        if job is None:
            return _refuse(404, "there is no such job")
        job.cancelled = True
        future = self._futures.get(job.id)
        if future is not None and not future.cancel():
            with contextlib.suppress(Exception):
                await asyncio.wrap_future(future)  # until the progress callback has ended it
        self._delete(job)
        return Response(status_code=204)

    async def download(self, request: Request) -> Response:
        """One sound of a finished job, by its name."""
        job = self._jobs.get(request.path_params["id"])
        path = None if job is None else job.outputs.get(request.path_params["name"])
        return _refuse(404, "there is no such sound, or not yet") if path is None else FileResponse(path)

    async def health(self, _request: Request) -> Response:
        """How many jobs there are in each state."""
        states = [job.state for job in self._jobs.values()]
        return JSONResponse({state: states.count(state) for state in sorted(set(states))})

    async def _receive(self, request: Request, job: Job) -> Response | None:
        """Write an upload to the job's folder; the refusal of one that is not taken."""
        async with request.form(max_files=1, max_fields=self._limits.queries + 1) as form:
            upload = form.get("file")
            job.queries = [text for text in form.getlist("query") if isinstance(text, str) and text.strip()]
            if not isinstance(upload, UploadFile) or not job.queries:
                return _refuse(400, "send a recording as `file` and at least one sound as `query`")
            if len(job.queries) > self._limits.queries:
                return _refuse(400, f"at most {self._limits.queries} sounds at once")
            size = 0
            with (job.folder / "recording").open("wb") as file:  # never a name that a stranger chose
                while block := await upload.read(_BLOCK):
                    size += len(block)
                    if size > self._limits.upload:
                        return _refuse(413, f"recordings have at most {self._limits.upload >> 20} MiB")
                    await asyncio.to_thread(file.write, block)
        return None

    def _separate(self, job: Job) -> None:
        """In the worker: one job from its upload to its files."""
        deadline = time.monotonic() + self._limits.time

        def progress(fraction: float) -> bool:
            job.progress = fraction
            return not job.cancelled and time.monotonic() < deadline

        job.state = "running"
        output = audiosep.OutputOptions(format="flac", residual=False, max_seconds=self._limits.seconds)
        try:
            report = self._separator.separate_files(
                job.folder / "recording", job.queries, job.folder / "out", output=output, progress=progress
            )
            report.raise_for_failures()
            job.outputs = {name: Path(path) for name, path in report.results[0].outputs.items()}
            job.state = "done"
        except audiosep.Cancelled:
            job.state = "cancelled" if job.cancelled else "failed"
            job.error = None if job.cancelled else f"it took more than {self._limits.time:.0f} s"
        except audiosep.AudioSepError as error:
            job.state, job.error = "failed", str(error).replace(f"{job.folder}/", "")
        except BaseException:
            job.state, job.error = "failed", "an error of the service"
            raise
        finally:
            (job.folder / "recording").unlink(missing_ok=True)
            job.ended = time.monotonic()

    def _about(self, job: Job) -> dict[str, Any]:
        ahead = [one.id for one in self._jobs.values() if one.state in ("waiting", "running")]
        return {
            "id": job.id,
            "state": job.state,
            "progress": round(job.progress, 3),
            "ahead": ahead.index(job.id) if job.id in ahead else 0,
            "sounds": list(job.outputs),
            "error": job.error,
        }

    def _forget_old(self) -> None:
        now = time.monotonic()
        ended = sorted((job.ended, job.id) for job in self._jobs.values() if job.ended is not None)
        over = len(ended) - self._limits.kept
        for number, (when, id) in enumerate(ended):
            if number < over or now - when > self._limits.keep:
                self._delete(self._jobs[id])

    async def _forget_for_ever(self, every: float = 30.0) -> None:
        while True:
            await asyncio.sleep(every)
            self._forget_old()

    def _delete(self, job: Job) -> None:
        self._jobs.pop(job.id, None)
        self._futures.pop(job.id, None)
        shutil.rmtree(job.folder, ignore_errors=True)

    @contextlib.asynccontextmanager
    async def _lifespan(self, _app: Starlette) -> AsyncIterator[None]:
        forgetting = asyncio.create_task(self._forget_for_ever())
        try:
            yield
        finally:
            forgetting.cancel()
            for job in self._jobs.values():
                job.cancelled = True
            self._worker.shutdown(cancel_futures=True)
            shutil.rmtree(self._root, ignore_errors=True)


def _refuse(status: int, why: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"error": why}, status, headers)


def main() -> None:
    """The command line."""
    import uvicorn

    from audiosep.inference.heap import share_heaps

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--threads", type=int, help="to compute with; by default as many as CPUs are free")
    parser.add_argument("--waiting", type=int, default=Limits.waiting)
    options = parser.parse_args()
    share_heaps()  # before there are threads: the process stays as small as at the start
    audiosep.use_threads(options.threads)
    service = Service(audiosep.load(options.model, sounds=False), Limits(waiting=options.waiting))
    uvicorn.run(service.app, host=options.host, port=options.port, log_level="warning")


if __name__ == "__main__":
    main()
