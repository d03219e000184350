"""Start of a run: its folder, its network and its images, from a configuration."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
from accelerate import Accelerator
from accelerate.utils import broadcast_object_list
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from ..checkpoints.checkpoint import Checkpoint, read_checkpoint
from ..checkpoints.limits import check_size
from ..checkpoints.models import find_model
from ..errors import Cancelled
from ..evaluation.protocol import Protocol
from ..evaluation.test_sets import ImagePair, PixelPair, read_pair
from ..files import check_target, remove_abandoned, replacing
from ..network.config import SwinIRConfig
from ..network.initialisation import init_weights
from ..network.swinir import SwinIR
from ..text import listed
from .data import Pairs, Patches, Photos, Plain, given_inputs, image_paths
from .losses.objective import Objective
from .report import SAMPLES
from .runtime import make_accelerator, stop_signals
from .saves import STATE, load_fitting, read_state
from .settings.settings import SettingError, TrainConfig
from .tasks import Task, build_task
from .teacher import Teacher
from .teacher_pictures import TaughtPatches, TeacherPictures
from .trainer import Trainer
from .validation import baseline, read_validation, spread

SETTINGS = "settings.toml"
IMAGES_PER_KEPT = 20
"""Training images for each one kept apart, if no folder to validate on is given."""

MOST_KEPT = 8
LEAST_IMAGES = 5
"""Training images from which on at least one is kept apart."""

PICTURES_PER_LINE = 100
"""The teacher's pictures for each line of the log."""

log = logging.getLogger(__name__)


def train(config: TrainConfig, resume: bool = False) -> bool:
    """Train as ``config`` says, in the processes that the launcher started.

    Returns whether the run reached its last step; see ``Trainer.run`` also for what it raises.

    Raises:
        SettingError: settings that do not fit the network or the machine.
        ValueError: folders, images and files that cannot be used.
    """
    run = config.run
    accelerator = make_accelerator(run.device, run.precision)
    main, processes = accelerator.is_main_process, accelerator.num_processes
    with messages(main):
        if config.data.batch % (processes * config.data.parts):
            reason = f"must be a multiple of the {processes} processes"
            if config.data.parts > 1:
                reason += f" times parts = {config.data.parts}"
            raise config.data.fault("batch", reason)
        if main:
            check_folder(run.out, resume)
        start = read_start(config, resume)
        network = network_config(config, start)
        # Read by one process, because other machines may not have the folder.
        optimizer = config.schedule.optimizer
        states = [read_state(run.out, network, optimizer) if resume and main else None]
        broadcast_object_list(states)
        state = states[0]
        objective = Objective(config.loss, accelerator.device)
        model = SwinIR(network)
        init_weights(model, run.seed)
        if start and not resume:
            log.info(load_fitting(model, start, str(run.start_from)))
            if start.taken:
                log.info(f"taken of {run.start_from}: {start.taken}")

        task = build_task(config.task, config.degradation)
        images, paths = choose_images(config, task)
        untouched = describe_validation(images, task.protocol) if main else None
        patches = make_pairs(config, task, paths, accelerator)
        if patches is None:
            return False
        trainer = Trainer(model, objective, patches, images, config, accelerator, untouched)
        if state:
            describe_changes(state["settings"], config.to_toml())
            trainer.resume(state)
        if main:
            start_folder(config)
        log.info(
            f"{sum(p.numel() for p in model.parameters()):,} parameters; {processes} "
            f"process{'es' * (processes > 1)} on {accelerator.device.type}, precision "
            f"{accelerator.mixed_precision}; step {trainer.step} of {config.schedule.steps}"
        )
        return trainer.run()


@contextmanager
def messages(main: bool) -> Iterator[None]:
    """Show the log on the terminal, above the progress bar; of the main process only."""
    logger = logging.getLogger(__package__)
    handler, level = logging.StreamHandler(), logger.level
    handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO if main else logging.ERROR)
    try:
        with logging_redirect_tqdm([logger]):
            yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def check_folder(out: Path, resume: bool) -> None:
    """Raise ``ValueError`` where ``out`` cannot be the folder of this run."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is not a folder; choose another name for the run.")
    if (out / STATE).exists() and not resume:
        raise ValueError(f"{out} already holds a run; add --resume, or choose another folder.")


def start_folder(config: TrainConfig) -> None:
    """Make the folder of the run and write its settings.

    Raises ``WriteError``, also where the state could not be saved later.
    """
    out = config.run.out
    with replacing(out / SETTINGS) as part:
        part.write_text(config.to_toml(), encoding="utf-8")
    check_target(out / STATE)
    remove_abandoned(out)
    remove_abandoned(out / SAMPLES)


def read_start(config: TrainConfig, resume: bool) -> Checkpoint | None:
    """Read the checkpoint to start from; when resuming, only if the network is that of it."""
    shape_is_given = config.network.preset or config.network.embed_dim
    if config.run.start_from is None or (resume and shape_is_given):
        return None
    return read_checkpoint(find_model(config.run.start_from))


def network_config(config: TrainConfig, start: Checkpoint | None) -> SwinIRConfig:
    """Configuration of the network to train. Raises ``SettingError``."""
    data = config.data
    try:
        network = config.network.config(config.task, data.patch, start.config if start else None)
        check_size(network)  # Else it could be trained, yet its checkpoint not be read.
    except SettingError:
        raise
    except ValueError as error:
        raise SettingError("network", "", None, str(error)) from error
    if data.patch % network.alignment:
        below = data.patch // network.alignment * network.alignment
        raise data.fault(
            "patch",
            f"must be a multiple of the network's window, {network.alignment}, such as "
            f"{below or network.alignment} or {below + network.alignment}",
        )
    return network


def choose_images(config: TrainConfig, task: Task) -> tuple[list[PixelPair], list[Path]]:
    """Read the images to score, and list the files to train on.

    What is scored is not trained on, nor what the run itself has written.
    """
    data = config.data
    aside = [config.run.out, *data.low]
    if data.validate:
        aside += [data.validate, *([data.validate_low] if data.validate_low else [])]
        images = read_validation(
            data.validate, task.protocol, data.validate_at_most, data.validate_low
        )
        return images, image_paths(data.train, aside)
    paths = image_paths(data.train, aside)
    least = 1 if len(paths) >= LEAST_IMAGES else 0
    count = min(max(len(paths) // IMAGES_PER_KEPT, least), MOST_KEPT)
    chosen = spread(paths, count)
    inputs = given_inputs(chosen, data.train, data.low, task.scale) if data.low else {}
    kept: dict[Path, PixelPair] = {}
    for seed, path in enumerate(chosen):
        try:
            pair = ImagePair(path.name, path, inputs.get(path), seed)
            kept[path] = read_pair(pair, task.protocol)
        except ValueError:
            continue  # Photos.read counts it among those that cannot be trained on.
    names = listed([path.name for path in kept])
    log.info(f"kept apart for validation, as no folder is given: {names or 'no image'}")
    return list(kept.values()), [path for path in paths if path not in kept]


def make_pairs(
    config: TrainConfig, task: Task, paths: Sequence[Path], accelerator: Accelerator
) -> Pairs | None:
    """Read the photographs and, where there is a teacher, make what is missing of its pictures.

    Returns ``None`` when Ctrl-C or SIGTERM ended that; the pictures made so far stay.
    """
    data, main = config.data, accelerator.is_main_process
    shared = (data.patch, data.batch, config.run.seed, Plain(data.flat, data.gray))
    taught = config.teacher.file is not None
    # Half of what is free, for the batches and the network need memory too.
    memory = psutil.virtual_memory().available // 2 // accelerator.num_processes
    side = config.teacher.crop if taught else data.patch
    inputs = given_inputs(paths, data.train, data.low, task.scale) if data.low else None
    photos = Photos.read(paths, task, side, 0 if taught else memory, not main, inputs)
    describe_photos(photos, taught)
    if config.teacher.file is None:
        return Patches(photos, *shared)
    teacher = Teacher(config.teacher.file, task, accelerator.device, accelerator.mixed_precision)
    pictures = TeacherPictures(teacher, config, photos)
    if not make_together(pictures, accelerator):
        return None
    return TaughtPatches(pictures, *shared)


def make_together(pictures: TeacherPictures, accelerator: Accelerator) -> bool:
    """Make the missing pictures in the main process, while the others wait.

    Returns whether all are there.
    """
    main = accelerator.is_main_process
    missing = pictures.missing() if main else []
    if missing:
        log.info(pictures.check_room(missing))
    count, done, begun = len(missing), 0, time.monotonic()
    with (
        stop_signals() as stop,
        tqdm(total=count, desc="teacher", unit="picture", disable=not main or None) as bar,
    ):
        made = pictures.make(missing, stop.is_set)

        def one_more() -> bool:
            with suppress(Cancelled):
                return next(made, None) is not None
            return False

        # Told one by one, for a process that hears nothing for half an hour gives up.
        while from_main(one_more()):
            bar.update()
            done += 1
            if main and done % PICTURES_PER_LINE == 0:
                left = (time.monotonic() - begun) / done * (count - done)
                log.info(f"picture {done:,} of {count:,}  {tqdm.format_interval(left)} left")
        complete = from_main(done == count)
    if not complete:
        log.info(f"stopped; the pictures in {pictures.folder} stay, the same command goes on")
    return complete


def from_main(value: bool) -> bool:
    """Return what the main process says, in all processes."""
    values = [value]
    broadcast_object_list(values)
    return values[0]


def describe_validation(images: Sequence[PixelPair], protocol: Protocol) -> float | None:
    """Log the number of validation images and the scores of their inputs, the baseline.

    Returns the PSNR of these, or ``None`` where there are no images.
    """
    if not images:
        return None
    psnr, ssim, *_ = baseline(images, protocol).values()
    count = _count(len(images), "validation image")
    log.info(f"{count}; untouched: PSNR {psnr:.2f} dB, SSIM {ssim:.4f}")
    return psnr


def describe_photos(photos: Photos, taught: bool) -> None:
    """Log the number of photographs, and which files are skipped and why."""
    skipped = {"unreadable": photos.unreadable, "smaller than a patch": photos.too_small}
    for reason, paths in skipped.items():
        if paths:
            log.warning(f"skipped {len(paths)} {reason}: {listed(paths)}")
    elsewhere = 0 if taught else len(photos.paths) - len(photos.held)
    log.info(
        _count(len(photos.paths), "training image")
        + f", {elsewhere} of which do not fit into memory and are read for each patch"
        * (elsewhere > 0)
    )


def describe_changes(before: str, now: str) -> None:
    """Log the settings that differ from those the run was saved with.

    With other settings a resumed run is not the one it would have been without interruption.
    """
    lines = set(before.splitlines())
    changed = [line for line in now.splitlines() if line not in lines]
    if changed:
        log.warning(f"resumed with other settings: {'; '.join(changed)}")


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"
