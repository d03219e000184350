"""Training by mean absolute error, the paper's first stage for every super-resolution task."""

import copy
import csv
import logging
import math
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Any

import torch
import torch.nn.functional as F
from tqdm import tqdm

from ..checkpoint import Checkpoint, write_checkpoint
from ..config import SwinIRConfig
from ..files import replacing
from ..network import SwinIR
from .data import PatchSampler
from .runtime import keep_freed_memory, stop_signals, training_dtype
from .validation import TestImage, mean_psnr

WEIGHTS_FILE = "last.safetensors"
STATE_FILE = "state.pt"
LOG_FILE = "log.csv"
LOG_COLUMNS = ("step", "seconds", "learning_rate", "loss", "psnr")

STATE_KEYS = frozenset({"config", "model", "average", "optimizer", "step", "seconds", "seed"})
_NO_STATE = (
    f"is damaged or not the state of a run; start a new run in another folder, from the "
    f"{WEIGHTS_FILE} beside it if that is whole"
)

WARM_UP = 0.01
FINAL_LEARNING_RATE = 1e-6
EMA_DECAY = 0.999

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainSettings:
    """How to train; what to train is the model's configuration. Impossible values raise
    ``ValueError``."""

    steps: int
    """Length of the whole run, steps before a resumption included."""

    batch: int = 16
    """Patches in one step."""

    learning_rate: float = 5e-4
    """The highest, right after the warm-up."""

    clip_norm: float | None = None
    """Gradients are shortened to this length. ``None``: never, as in the paper."""

    precision: str = "auto"
    """Arithmetic of the forward pass: auto, float32 or bfloat16."""

    log_every: int = 100
    """Steps between lines of the log."""

    validate_every: int = 2000
    """Steps between validations; the end of the run is always validated."""

    save_minutes: float = 5.0
    """Minutes between saves; the end of the run is always saved."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log_every", "validate_every"):
            value = getattr(self, name)
            if not value >= 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number, got {value}")
        if not self.save_minutes >= 0:
            raise ValueError(f"save_minutes must not be negative, got {self.save_minutes}")


def learning_rate(step: int, settings: TrainSettings) -> float:
    """Linear warm-up, then half a cosine, from nothing but how far the run has come.

    A run resumed with another number of steps goes on along another curve.
    """
    warm_up = WARM_UP * settings.steps
    if step < warm_up:
        return settings.learning_rate * (step + 1) / (warm_up + 1)
    progress = (step - warm_up) / (settings.steps - warm_up)
    height = (1 + math.cos(math.pi * progress)) / 2
    return FINAL_LEARNING_RATE + (settings.learning_rate - FINAL_LEARNING_RATE) * height


def read_state(run_dir: Path, config: SwinIRConfig) -> dict[str, Any]:
    """What ``Trainer.save`` wrote, on the CPU. Raises ``ValueError`` where there is no run, where
    the file is damaged or foreign, and where the run is of another network."""
    path = run_dir / STATE_FILE
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        missing = STATE_KEYS - state.keys()
    except FileNotFoundError as error:
        raise ValueError(f"{run_dir} holds no run to resume; name the folder of one") from error
    except OSError:
        raise
    except Exception as error:  # torch raises some ten types for files that are no state
        raise ValueError(f"{path} {_NO_STATE}") from error
    if missing:
        raise ValueError(f"{path} {_NO_STATE}")
    ours, theirs = config.to_dict(), state["config"]
    different = [name for name in ours if theirs.get(name) != ours[name]]
    if different:
        was = ", ".join(f"{name}={theirs.get(name)!r}" for name in different)
        raise ValueError(f"{path} holds a run of another network, one with {was}")
    return state


def ema_decay(step: int) -> float:
    """How much of the average survives a step: little at first, lest it remember random weights."""
    return min(EMA_DECAY, (1 + step) / (10 + step))


class Trainer:
    """One run in one folder: the weights, their running average, Adam, the step reached.

    The running average is what is validated and written as ``last.safetensors``; ``state.pt``
    holds the rest. Both are replaced whole, so a crash leaves the previous ones.
    """

    def __init__(
        self,
        model: SwinIR,
        sampler: PatchSampler,
        settings: TrainSettings,
        run_dir: Path,
        test_images: list[TestImage] | None = None,
    ) -> None:
        self.model = model.train()
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.sampler = sampler
        self.settings = settings
        self.run_dir = run_dir
        self.test_images = test_images
        self.device = next(model.parameters()).device
        self.dtype = training_dtype(settings.precision, self.device)
        self.optimizer = torch.optim.Adam(
            model.parameters(), settings.learning_rate, betas=(0.9, 0.99), fused=True
        )
        self.step = 0
        self.seconds = 0.0

    def run(self) -> bool:
        """Train to the last step. False when Ctrl-C or SIGTERM ended it early; saved either way.

        Raises ``FloatingPointError`` when the loss is no longer a number; the last save stands.
        """
        self.run_dir.mkdir(parents=True, exist_ok=True)
        keep_freed_memory()
        with stop_signals() as stop:
            if self.step < self.settings.steps:
                self._train(stop)
            elif self.test_images:
                self._log(None, self._validate())
        finished = self.step >= self.settings.steps
        self.save()
        log.info("%s at step %d", "finished" if finished else "stopped", self.step)
        return finished

    def _train(self, stop: Event) -> None:
        settings, first = self.settings, self.step
        begun = time.monotonic() - self.seconds
        save_due = self.seconds + 60 * settings.save_minutes
        losses: list[float] = []
        for _ in tqdm(range(first, settings.steps), initial=first, total=settings.steps,
                      disable=None, unit="step"):  # fmt: skip
            losses.append(self._take_step())
            self.seconds = time.monotonic() - begun
            finished = self.step == settings.steps
            validation_due = finished or self.step % settings.validate_every == 0
            if validation_due or stop.is_set() or self.step % settings.log_every == 0:
                self._log(sum(losses) / len(losses), self._validate() if validation_due else None)
                losses.clear()
            if stop.is_set():
                return
            if self.seconds > save_due and not finished:
                self.save()
                save_due = self.seconds + 60 * settings.save_minutes

    def _validate(self) -> float | None:
        if not self.test_images:
            return None
        return mean_psnr(self.average, self.test_images, self.model.config.scale)

    def _take_step(self) -> float:
        low, high = (t.to(self.device) for t in self.sampler.batch(self.step, self.settings.batch))
        rate = learning_rate(self.step, self.settings)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            output = self.model(low)
        loss = F.l1_loss(output.float(), high)
        value = loss.item()
        if not math.isfinite(value):
            saved = (self.run_dir / STATE_FILE).exists()
            raise FloatingPointError(
                f"the loss is {value} at step {self.step}; {'resume' if saved else 'start again'} "
                f"with a learning rate below {self.settings.learning_rate:g} or with gradient "
                "clipping"
            )
        self.optimizer.zero_grad()
        loss.backward()
        if self.settings.clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip_norm)
        self.optimizer.step()
        self._update_average()
        self.step += 1
        return value

    @torch.no_grad()
    def _update_average(self) -> None:
        pairs = zip(self.average.parameters(), self.model.parameters(), strict=True)
        for average, parameter in pairs:
            average.lerp_(parameter, 1 - ema_decay(self.step))

    def _log(self, loss: float | None, psnr: float | None) -> None:
        path = self.run_dir / LOG_FILE
        fresh = not path.exists()
        rate = learning_rate(self.step, self.settings)
        loss_text = "" if loss is None else f"{loss:.6f}"
        psnr_text = "" if psnr is None else f"{psnr:.4f}"
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(LOG_COLUMNS)
            writer.writerow((self.step, f"{self.seconds:.1f}", f"{rate:.3e}", loss_text, psnr_text))
        log.info(
            "step %d  %slearning rate %.2e%s",
            self.step,
            f"loss {loss_text}  " if loss_text else "",
            rate,
            f"  PSNR {psnr_text} dB" if psnr_text else "",
        )

    def save(self) -> None:
        """Write the weights and the state to continue from."""
        metadata = {"trained_steps": str(self.step)}
        checkpoint = Checkpoint(self.model.config, self.average.state_dict(), metadata)
        write_checkpoint(self.run_dir / WEIGHTS_FILE, checkpoint)
        state = {
            "config": self.model.config.to_dict(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "seed": self.sampler.seed,
        }
        with replacing(self.run_dir / STATE_FILE) as part:
            torch.save(state, part)

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from what ``read_state`` gave."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]
        self.seconds = state["seconds"]
        self.sampler.seed = state["seed"]
