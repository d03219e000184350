"""The training loop: one run in one folder."""

from __future__ import annotations

import copy
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn
from tqdm import tqdm

from ..checkpoints.checkpoint import Checkpoint, write_checkpoint
from ..evaluation.scoring import mean_scores, paper_restorer, restored, score
from ..evaluation.test_sets import PixelPair
from ..network.swinir import SwinIR
from .data import Pairs, batches
from .losses.objective import Critic, Objective
from .muon import Muon, parameter_groups
from .report import (
    CURVES,
    LOG,
    SAMPLES,
    Row,
    read_rows,
    summary,
    write_curves,
    write_rows,
    write_samples,
)
from .runtime import keep_freed_memory, stop_signals
from .saves import BEST, LAST, STATE, keeping_saves, write_state
from .schedule import ema_decay, learning_rate
from .settings.settings import TrainConfig

READ_EVERY = 10
"""Steps after which the losses are read from a GPU, which waits for it to finish them."""

MOST_ERROR = 1.0
"""Pixel loss of a run that has diverged: no picture in 0..1 is wrong by more. A step or two may
overshoot and come back, so it is the median of the last ``READINGS`` that counts. Honest runs, also
those of a GAN, stay below a third of it from the first step on."""

READINGS = 20

DECIBELS_FOR_DETAIL = 3.0
"""PSNR that the losses of real-world training may cost, for they invent detail. Honest runs of ours
stay above the untouched input."""

log = logging.getLogger(__name__)


class Trainer:
    """The state of a run: weights, their running average, the optimizer, the step reached.

    The average is what is validated and written, as ``last.safetensors`` and, where its PSNR is
    the highest so far, as ``best.safetensors``; ``state.pt`` holds the rest. Files are replaced
    whole, so a crash leaves the previous ones. Only the main process writes.

    Args:
        model: the network to train, with its first weights.
        objective: the losses that need no discriminator.
        patches: pairs of network input and wanted output.
        images: what is scored at each validation, and shown in the samples; may be empty.
        config: all settings; ``config.run.out`` is the folder of the run.
        accelerator: device, precision and processes.
        untouched: PSNR of the inputs of ``images`` themselves, in the main process if there are
            any; a run that ends below it says so.
    """

    def __init__(
        self,
        model: SwinIR,
        objective: Objective,
        patches: Pairs,
        images: Sequence[PixelPair],
        config: TrainConfig,
        accelerator: Accelerator,
        untouched: float | None,
    ) -> None:
        self.untouched = untouched
        self.config, self.accelerator = config, accelerator
        self.patches, self.images = patches, images
        self.task = patches.task
        self.out = config.run.out
        self.main = accelerator.is_main_process

        schedule, device = config.schedule, accelerator.device
        self.model = model.to(device).train()
        self.model.set_drop_path(schedule.drop_path)
        self.average = copy.deepcopy(model).eval().requires_grad_(False)
        self.restorer = paper_restorer(self.average, device, torch.float32)
        if schedule.optimizer == "muon":
            optimizer = Muon(parameter_groups(model), schedule.betas)
        else:
            optimizer = torch.optim.Adam(model.parameters(), betas=schedule.betas, fused=True)
        self.prepared, self.optimizer = accelerator.prepare(model, optimizer)
        self.objective = objective
        self.critic = None
        if config.loss.gan_weight:
            self.critic = Critic(self.task.channels, config, accelerator)
        self.terms = [*objective.losses, *(("gan", "critic") if self.critic else ())]

        self.step = 0
        self.seconds = 0.0
        self.best = -math.inf
        self.rows: list[Row] = []
        self.errors: deque[float] = deque(maxlen=READINGS)
        """The last readings of the pixel loss, the first of ``terms``."""
        self.unlogged = np.zeros(len(self.terms) + 1)
        """Sums of the losses since the last line of the table, then the number of steps."""

    def run(self) -> bool:
        """Train to the last step. False when Ctrl-C or SIGTERM ended it early; saved either way.

        Raises ``FloatingPointError`` when the loss is no longer a number or has grown beyond sense
        and ``SaveError`` when the disk refuses; what was saved before stands.
        """
        keep_freed_memory()
        with stop_signals() as stop:
            if self.step < self.config.schedule.steps:
                self._train(stop)
            else:
                self._report({}, validate=True)
                self.save()
                self._draw()
        finished = self.step >= self.config.schedule.steps
        best = f", {BEST} has PSNR {self.best:.2f} dB" if self.best > -math.inf else ""
        log.info(
            f"{'finished' if finished else 'stopped'} at step {self.step:,}; "
            f"the weights are in {self.out / LAST}{best}"
        )
        if finished and self.untouched is not None:
            self._warn_if_worse(self.untouched)
        return finished

    def _warn_if_worse(self, untouched: float) -> None:
        """Say where the last scores are below those of the inputs themselves: a learning rate that
        is too high, but not by far, ends so without diverging."""
        loss, schedule = self.config.loss, self.config.schedule
        detail = loss.gan_weight or loss.perceptual_weight or loss.texture_weight
        psnr = self.rows[-1]["psnr"]
        if psnr < untouched - DECIBELS_FOR_DETAIL * bool(detail):
            log.warning(
                f"{LAST} makes images worse: PSNR {psnr:.2f} dB, and {untouched:.2f} dB if they "
                f"are left untouched; train with a learning_rate below "
                f"{schedule.learning_rate:g}, or for more steps than {schedule.steps:,}."
            )

    def _train(self, stop: Event) -> None:
        run, last = self.config.run, self.config.schedule.steps
        begun = time.monotonic() - self.seconds
        saved = self.seconds
        read_every = 1 if self.accelerator.device.type == "cpu" else READ_EVERY
        steps = range(self.step, last)
        inputs = batches(self.patches, steps, self.accelerator, self.config.data.workers)
        unread: list[Tensor] = []
        with tqdm(initial=self.step, total=last, unit="step", disable=not self.main or None) as bar:
            while self.step < last:
                unread.append(self._take_step(*next(inputs)))
                bar.update()
                log_due = self.step % run.log_every == 0
                validation_due = self.step == last or self.step % run.validate_every == 0
                if not (log_due or validation_due or self.step % read_every == 0):
                    continue
                self.seconds = time.monotonic() - begun
                save_due = self.seconds - saved > 60 * run.save_minutes
                means, stopping, save_due = self._read(unread, stop.is_set(), save_due)
                self.unlogged += [*(means * len(unread)), len(unread)]
                unread.clear()
                bar.set_postfix({self.terms[0]: f"{means[0]:.4f}"}, refresh=False)
                reported = log_due or validation_due or stopping
                if reported:
                    means = self.unlogged[:-1] / self.unlogged[-1]
                    self._report(dict(zip(self.terms, means, strict=True)), validation_due)
                    self.unlogged[:] = 0
                if validation_due or save_due or stopping:
                    self.save()
                    saved = self.seconds
                if reported:
                    self._draw()
                if stopping:
                    return

    def _take_step(self, low: Tensor, high: Tensor) -> Tensor:
        """Take a step on a batch (B, C, H, W) and (B, C, scale*H, scale*W) of this process.

        Returns the losses in the order of ``terms``, on the device.
        """
        schedule, device = self.config.schedule, self.accelerator.device
        low, high = (tensor.to(device, non_blocking=True) for tensor in (low, high))
        rate = learning_rate(self.step, schedule)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        # For stochastic depth: a resumed run draws what an uninterrupted one draws.
        place = (self.config.run.seed, self.step, self.accelerator.process_index)
        torch.manual_seed(int(np.random.SeedSequence(place).generate_state(1, np.uint64)[0]))

        self.optimizer.zero_grad()
        output, losses = self._gradients(low, high)
        if schedule.clip_norm is not None:
            self.accelerator.unscale_gradients(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), schedule.clip_norm)
        self.optimizer.step()
        if self.critic:
            losses = torch.cat([losses, self.critic.learn(output, high, rate)[None]])
        average = get_ema_multi_avg_fn(ema_decay(self.step, schedule))
        average([*self.average.parameters()], [*self.model.parameters()], self.step)
        self.step += 1
        return losses

    def _gradients(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Add up the gradients of a batch, part by part.

        Returns the output (B, C, scale*H, scale*W) and the terms of the loss, without the critic's.
        """
        parts = self.config.data.parts
        outputs, losses = [], []
        for part_low, part_high in zip(low.chunk(parts), high.chunk(parts), strict=True):
            last = len(outputs) == parts - 1
            # The processes add up their gradients once, after the last part.
            with nullcontext() if last else self.accelerator.no_sync(self.prepared):
                output = self.prepared(part_low)
                terms = self.objective(output, part_high)
                if self.critic:
                    terms["gan"] = self.critic.adversarial(output)
                loss = torch.stack(list(terms.values())) / parts
                self.accelerator.backward(loss.sum())
            outputs.append(output.detach())
            losses.append(loss.detach())
        return torch.cat(outputs), torch.stack(losses).sum(0)

    def _read(
        self, unread: Sequence[Tensor], stopping: bool, save_due: bool
    ) -> tuple[np.ndarray, bool, bool]:
        """Read the losses of some steps, and agree with the other processes.

        Returns the mean losses over steps and processes, whether any process was told to stop, and
        whether the main one wants to save. Raises ``FloatingPointError``.
        """
        sums = np.sum(torch.stack(list(unread)).tolist(), axis=0)
        told = [*sums, len(unread), stopping, self.main and save_due]
        *sums, count, stopped, due = np.sum(gather_object([told]), axis=0)
        means = np.array(sums) / count
        self.errors.append(means[0])
        judged = len(self.errors) == READINGS or self.step == self.config.schedule.steps
        fault = ""
        if not np.isfinite(means).all():
            fault = f"the loss is not a number at step {self.step}, or a few before"
        elif judged and np.median(self.errors) > MOST_ERROR:
            fault = (
                f"the training has diverged at step {self.step}, or before: a pixel loss of "
                f"{np.median(self.errors):.3g} is more than any picture of 0 to 1 can be wrong by"
            )
        if fault:
            way = "resume" if (self.out / STATE).exists() else "start again"
            raise FloatingPointError(
                f"{fault}; {way} with a learning_rate below "
                f"{self.config.schedule.learning_rate:g}, or with a clip_norm."
            )
        return means, stopped > 0, due > 0

    def _report(self, losses: dict[str, float], validate: bool) -> None:
        """Add a line to the table; with ``validate``, score the average and keep the best."""
        rate = learning_rate(self.step, self.config.schedule)
        row: Row = {"step": self.step, "seconds": self.seconds, "learning_rate": rate}
        if losses:
            row["loss"] = sum(value for term, value in losses.items() if term != "critic")
            row |= losses
        if validate and self.images:
            row["psnr"], row["ssim"] = self._scores()
        if not self.main:
            return
        self.rows.append(row)
        self._write(LOG, lambda path: write_rows(path, self.rows))
        log.info(summary(row, self.config.schedule.steps))
        if "psnr" in row and row["psnr"] > self.best:
            self.best = row["psnr"]
            scores = f"PSNR {row['psnr']:.2f} dB, SSIM {row['ssim']:.4f}"
            self._write_weights(BEST, {"validation": scores})

    def _draw(self) -> None:
        """Draw the curves, and the samples where the last line of the table has scores.

        Nothing depends on these pictures, so all else is written before them.
        """
        if not self.main:
            return
        self._write(CURVES, lambda path: write_curves(path, self.rows))
        samples = self.images[: self.config.run.samples]
        if samples and "psnr" in self.rows[-1]:
            self._write(
                f"{SAMPLES}/step_{self.step:08}.png",
                lambda path: write_samples(path, self.restorer, samples),
            )

    def _scores(self) -> tuple[float, float]:
        """Mean PSNR and SSIM of the average. The processes divide the images among themselves."""
        own = self.images[self.accelerator.process_index :: self.accelerator.num_processes]
        protocol = self.task.protocol
        scored = [score(restored(self.restorer, low), high, protocol) for low, high in own]
        psnr, ssim, *_ = mean_scores(gather_object(scored)).values()
        return psnr, ssim

    def save(self) -> None:
        """Write the weights and the state to continue from."""
        if not self.main:
            return
        self._write_weights(LAST, {})
        scaler = self.accelerator.scaler
        state = {
            "config": self.model.config.to_dict(),
            "settings": self.config.to_toml(),
            "model": self.model.state_dict(),
            "average": self.average.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "critic": self.critic.state_dict() if self.critic else None,
            "scaler": scaler.state_dict() if scaler else None,
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "unlogged": self.unlogged.tolist(),
        }
        self._write(STATE, lambda path: write_state(path, state))

    def _write_weights(self, name: str, metadata: dict[str, str]) -> None:
        run = {"trained_steps": str(self.step), "seed": str(self.config.run.seed)}
        weights = Checkpoint(self.model.config, self.average.state_dict(), run | metadata)
        self._write(name, lambda path: write_checkpoint(path, weights))

    def _write(self, name: str, write: Callable[[Path], object]) -> None:
        keeping_saves(write, self.out, name)

    def resume(self, state: dict[str, Any]) -> None:
        """Continue from a state that ``read_state`` returned."""
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        for group in self.optimizer.param_groups:
            group["betas"] = self.config.schedule.betas
        if self.critic and state["critic"]:
            self.critic.load_state_dict(state["critic"])
        if self.accelerator.scaler and state["scaler"]:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        self.unlogged[:] = state["unlogged"]
        self.rows = read_rows(self.out / LOG, self.step)
