"""``python -m swinir_core.training``: train a super-resolution network from photographs."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from tqdm.contrib.logging import logging_redirect_tqdm

from ..checkpoint import read_checkpoint
from ..cli_restore import find_device, path_argument
from ..config import RESI_CONNECTIONS, SwinIRConfig
from ..network import SwinIR
from .data import PatchDataset, PatchSampler
from .init import init_weights
from .runtime import PRECISIONS
from .trainer import STATE_FILE, Trainer, TrainSettings, read_state
from .validation import read_test_set

log = logging.getLogger(__name__)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Everything ``train`` reads, with the paper's lightweight network as the default."""
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        nargs="+",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="folders of PNG, JPEG, WebP and TIFF photographs, searched to any depth",
    )
    data.add_argument(
        "--validate",
        type=path_argument,
        metavar="DIR",
        help="test set: photographs, or HR and LR_bicubic folders",
    )
    data.add_argument(
        "--patch",
        type=int,
        default=64,
        help="side of a low-resolution patch (default: %(default)s)",
    )
    network = parser.add_argument_group("network")
    network.add_argument("--scale", type=int, default=2)
    network.add_argument("--embed-dim", type=int, default=60)
    network.add_argument("--depths", type=int, nargs="+", default=[6, 6, 6, 6], metavar="N")
    network.add_argument("--num-heads", type=int, nargs="+", default=[6, 6, 6, 6], metavar="N")
    network.add_argument("--window-size", type=int, default=8)
    network.add_argument("--mlp-ratio", type=float, default=2.0)
    network.add_argument(
        "--upsampler",
        default="pixelshuffledirect",
        choices=["pixelshuffledirect", "pixelshuffle", "nearest+conv"],
    )
    network.add_argument("--resi-connection", default="1conv", choices=RESI_CONNECTIONS)
    run = parser.add_argument_group("run")
    run.add_argument(
        "--out",
        type=path_argument,
        required=True,
        metavar="DIR",
        help="folder for weights, state and log",
    )
    run.add_argument("--steps", type=int, required=True)
    run.add_argument("--batch", type=int, default=TrainSettings.batch)
    run.add_argument(
        "--lr",
        type=float,
        default=TrainSettings.learning_rate,
        help="highest learning rate (default: %(default)s)",
    )
    run.add_argument(
        "--clip-norm",
        type=float,
        metavar="LENGTH",
        help="shorten gradients to this length; try 1 if training diverges",
    )
    run.add_argument("--precision", default="auto", choices=PRECISIONS)
    run.add_argument(
        "--device", default="auto", help="cpu, cuda, cuda:1 ... (default: a GPU if there is one)"
    )
    run.add_argument("--seed", type=int, default=0)
    run.add_argument("--log-every", type=int, default=TrainSettings.log_every, metavar="STEPS")
    run.add_argument(
        "--validate-every", type=int, default=TrainSettings.validate_every, metavar="STEPS"
    )
    run.add_argument("--save-minutes", type=float, default=TrainSettings.save_minutes)
    start = run.add_mutually_exclusive_group()
    start.add_argument("--resume", action="store_true", help="continue the run in --out")
    start.add_argument("--init-from", type=path_argument, metavar="FILE",
                       help="start from these weights, as far as their shapes fit")  # fmt: skip


def check_run(args: argparse.Namespace) -> None:
    """Raise ``ValueError`` for what would fail only once the images are loaded."""
    if not 0 <= args.seed < 2**63:
        raise ValueError(f"--seed must be a whole number from 0 to 2^63 - 1, got {args.seed}")
    if args.out.exists() and not args.out.is_dir():
        raise ValueError(f"{args.out} is not a folder; choose another name for --out")
    if not args.resume and (args.out / STATE_FILE).exists():
        raise ValueError(f"{args.out} already holds a run; resume it, or choose another folder")


def train(args: argparse.Namespace) -> bool:
    """Run as the arguments say; see ``Trainer.run``."""
    check_run(args)
    device = find_device(args.device)
    config = SwinIRConfig(
        scale=args.scale,
        in_channels=3,
        embed_dim=args.embed_dim,
        depths=tuple(args.depths),
        num_heads=tuple(args.num_heads),
        window_size=args.window_size,
        mlp_ratio=args.mlp_ratio,
        upsampler=args.upsampler,
        resi_connection=args.resi_connection,
        img_size=args.patch,
    )
    settings = TrainSettings(
        steps=args.steps,
        batch=args.batch,
        learning_rate=args.lr,
        clip_norm=args.clip_norm,
        precision=args.precision,
        log_every=args.log_every,
        validate_every=args.validate_every,
        save_minutes=args.save_minutes,
    )
    state = read_state(args.out, config) if args.resume else None
    if state and state["step"] > args.steps:
        raise ValueError(f"{args.out} is at step {state['step']} already, past {args.steps} steps")
    model = SwinIR(config)
    init_weights(model, args.seed)
    if args.init_from:
        load_fitting(model, args.init_from)
    test_images = read_test_set(args.validate, args.scale) if args.validate else None
    sampler = PatchSampler(load_data(args.data, args.scale, args.patch), args.seed)
    trainer = Trainer(model.to(device), sampler, settings, args.out, test_images)
    if state:
        trainer.resume(state)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    log.info("%d parameters, %s on %s, step %d", parameters, trainer.dtype, device, trainer.step)
    return trainer.run()


def load_data(folders: Sequence[Path], scale: int, patch: int) -> PatchDataset:
    """The training images; those that cannot be used are named in the log."""
    dataset = PatchDataset.from_folders(folders, scale, patch)
    for reason, paths in (("unreadable", dataset.unreadable), ("too small", dataset.too_small)):
        if paths:
            log.warning("skipped %d %s: %s", len(paths), reason, ", ".join(map(str, paths)))
    log.info("%d training images", len(dataset.pairs))
    return dataset


def load_fitting(model: SwinIR, path: Path) -> None:
    """Take over every weight of the same name and shape, such as all but the last of another
    scale. Raises ``ValueError`` when there is none."""
    own = model.state_dict()
    given = read_checkpoint(path).state_dict
    fitting = {
        name: tensor
        for name, tensor in given.items()
        if name in own and tensor.shape == own[name].shape
    }
    if not fitting:
        raise ValueError(f"no weight of {path} fits this network")
    model.load_state_dict(fitting, strict=False)
    fresh = sorted(own.keys() - fitting.keys())
    log.info("%d weights from %s; new: %s", len(fitting), path.name, ", ".join(fresh) or "none")


def main(argv: Sequence[str] | None = None) -> int:
    """Returns 0 also for a run stopped by Ctrl-C or SIGTERM: it is saved and can be resumed."""
    parser = argparse.ArgumentParser(prog="python -m swinir_core.training", description=__doc__)
    add_arguments(parser)
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    with logging_redirect_tqdm():
        try:
            train(args)
        except (ValueError, OSError, FloatingPointError) as error:
            log.error("%s", error)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
