"""``legnet train``: from tiles to weights."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from legnet_cli.commands.console import print_json, setup_logging
from legnet_cli.commands.options import (
    DeviceOpt,
    JsonOpt,
    LabelsOpt,
    OverwriteOpt,
    QuietOpt,
    StretchOpt,
    VerboseOpt,
)
from legnet_cli.engine.process import keep_freed

if TYPE_CHECKING:
    from legnet_cli.engine.train import TrainResult
    from legnet_cli.engine.train.steps import Step

STOPPED = 143  # the shell's code for SIGTERM
_LINE_SECONDS = 30.0  # between lines of a log


def train(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run.")],
    data: Annotated[Path | None, typer.Option(help="Labelled tiles, as legnet split makes them.")] = None,
    recipe: Annotated[str | None, typer.Option(help="As legnet models lists them.")] = None,
    config: Annotated[Path | None, typer.Option(help="A mmrotate .py config in place of a recipe.")] = None,
    weights: Annotated[
        str | None,
        typer.Option("--weights", "-w", help="To start from: name, file or URL, or none.", show_default="ImageNet's"),
    ] = None,
    classes: Annotated[str | None, typer.Option(help="In this order: ship,plane.", show_default="the data's")] = None,
    split: Annotated[str | None, typer.Option(help="Part to train on.", show_default="train, or the only one")] = None,
    epochs: Annotated[int | None, typer.Option(help="Length of training.", show_default="the recipe's")] = None,
    batch: Annotated[int | None, typer.Option(help="Images per device and pass.", show_default="the recipe's")] = None,
    accumulate: Annotated[int | None, typer.Option(help="Passes per step.", show_default="1")] = None,
    lr: Annotated[
        float | None, typer.Option(help="Peak learning rate.", show_default="the recipe's, by global batch")
    ] = None,
    override: Annotated[
        list[str] | None,
        typer.Option("--override", "-o", help="key=value, keys as --dry-run shows them; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of weights, order and transforms.")] = 0,
    patience: Annotated[int, typer.Option(help="Epochs without a better mAP50 to stop after; 0 never.")] = 0,
    device: DeviceOpt = "auto",
    devices: Annotated[int, typer.Option(help="Devices on each machine; torchrun and SLURM overrule it.")] = 1,
    nodes: Annotated[int, typer.Option(help="Machines.")] = 1,
    precision: Annotated[str, typer.Option("--precision", help="fp32, bf16 or fp16 (with loss scaling).")] = "fp32",
    workers: Annotated[
        int | None, typer.Option(help="Processes that read images.", show_default="one per core, up to 4")
    ] = None,
    stretch: StretchOpt = "auto",
    labels: LabelsOpt = None,
    skip_bad: Annotated[bool, typer.Option("--skip-bad", help="Leave out labels that cannot be used.")] = False,
    save_minutes: Annotated[float, typer.Option(help="Time between checkpoints within an epoch.")] = 10.0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, with its settings.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the resolved recipe, the data check and the cost of a step.")
    ] = False,
    overwrite: OverwriteOpt = False,
    json_: JsonOpt = False,
    quiet: QuietOpt = False,
    verbose: VerboseOpt = False,
) -> None:
    """Train a detector; best.safetensors in --out goes straight into predict and eval.

    Example: legnet train --data dota-tiles --recipe oriented-rcnn/legnet-small --out runs/small
    """
    setup_logging(-1 if quiet else int(verbose))
    keep_freed()
    from legnet_cli.commands.progress import download_progress
    from legnet_cli.engine.train import TrainConfig
    from legnet_cli.engine.train import train as run

    settings = TrainConfig(
        out=out,
        data=data,
        recipe=recipe,
        config=config,
        weights=weights,
        classes=tuple(name.strip() for name in classes.split(",")) if classes else (),
        split=split,
        labels=labels,
        skip_bad=skip_bad,
        epochs=epochs,
        batch=batch,
        accumulate=accumulate,
        lr=lr,
        stretch=stretch,
        overrides=tuple(override or ()),
        device=device,
        devices=devices,
        nodes=nodes,
        precision=precision,
        workers=workers,
        seed=seed,
        patience=patience,
        save_minutes=save_minutes,
        resume=resume,
        dry_run=dry_run,
        overwrite=overwrite,
    )
    with _Bar(quiet) as bar, download_progress(quiet=quiet) as arrived:
        result = run(settings, bar.show, arrived)
    if json_:
        print_json(_as_dict(result))
    elif not quiet:
        _show_plan(result) if dry_run else _show(result)
    if result.stopped == "signal":
        typer.echo(f"stopped after step {result.step}: legnet train --out {out} --resume goes on", err=True)
        raise typer.Exit(STOPPED)


class _Bar:
    """Progress over the whole run: a bar on a terminal, lines now and then in a log."""

    def __init__(self, quiet: bool) -> None:
        from tqdm import tqdm

        self._quiet = quiet
        self._bar: tqdm[Any] = tqdm(unit="step", dynamic_ncols=True, disable=quiet or not sys.stderr.isatty())
        self._last = 0.0

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, step: Step) -> None:
        """Take in the state after a step."""
        import time

        terms = " ".join(
            f"{name.removeprefix('loss_')} {value:.3f}" for name, value in step.losses.items() if name != "loss"
        )
        text = (
            f"loss {step.losses['loss']:.3f} ({terms}), {step.images_per_second:.3g} img/s, "
            f"{step.waiting:.0%} waiting for data, {step.memory_mb:,.0f} MB"
        )
        if not self._bar.disable:
            self._bar.total = step.steps
            self._bar.set_postfix_str(text, refresh=False)
            self._bar.update(step.step - self._bar.n)
        elif not self._quiet and (time.monotonic() - self._last > _LINE_SECONDS or step.step == step.steps):
            self._last = time.monotonic()
            left = time.strftime("%H:%M:%S", time.gmtime(step.seconds_left))
            typer.echo(
                f"epoch {step.epoch}/{step.epochs}, step {step.step}/{step.steps}, {text}, {left} left", err=True
            )
        if step.score is not None and not self._quiet:
            classes = ", ".join(f"{name} {value:.3f}" for name, value in step.score.ap50.items())
            self._bar.write(
                f"epoch {step.epoch}: mAP50 {step.score.map50:.3f}, mAP50:95 {step.score.map:.3f} ({classes})",
                file=sys.stderr,
            )


def _as_dict(result: TrainResult) -> dict[str, object]:
    best = result.best
    return {
        "out": str(result.out),
        "epochs": result.epochs,
        "steps": result.step,
        "stopped": result.stopped or None,
        "best": None if best is None else {"map50": best[0], "epoch": best[1]},
        "cost": None if result.cost is None else vars(result.cost),
        "seconds": round(result.seconds, 3),
        "data": result.check.to_dict(),
        "plan": result.plan.to_dict(),
    }


def _show(result: TrainResult) -> None:
    best = f", best mAP50 {result.best[0]:.3f} in epoch {result.best[1]}" if result.best else ""
    why = {"patience": ", stopped early", "signal": ", stopped"}.get(result.stopped, "")
    typer.echo(
        f"{result.epochs} epochs, {result.step:,} steps{why}{best}, {result.seconds:.0f} s → {result.out}", err=True
    )


def _show_plan(result: TrainResult) -> None:
    import yaml

    typer.echo(yaml.safe_dump(result.plan.to_dict(), sort_keys=False, width=120), nl=False)
    check, cost = result.check, result.cost
    typer.echo(
        f"\n{check.images:,} images, {check.empty:,} without objects, {check.validation:,} for validation", err=True
    )
    typer.echo("sizes: " + ", ".join(f"{size} ({count:,})" for size, count in check.sizes.items()), err=True)
    total = max(1, sum(check.objects.values()))
    for name, count in check.objects.items():
        typer.echo(f"  {name:24} {count:10,} {count / total:6.1%}", err=True)
    if cost is not None:
        epoch = cost.seconds * cost.steps_per_epoch
        typer.echo(
            f"a step of {cost.images} images took {cost.seconds:.2f} s and {cost.memory_mb:,.0f} MB: "
            f"{cost.steps_per_epoch:,} steps, about {epoch / 60:,.1f} minutes an epoch",
            err=True,
        )
