"""The runner: a killed run goes on bit for bit, on one process and on two; bad samples and NaNs; what is written."""

from __future__ import annotations

import gc
import importlib.util
import runpy
import shutil
import sys
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from safetensors.torch import load_file
from training_task import OPTIONS, WIDTH, Killed, LineTask, in_processes, lines, options

from latentsync.training.loop import records
from latentsync.training.loop.averages import Averages
from latentsync.training.loop.devices import enable_gradient_checkpointing, make_optimizer
from latentsync.training.loop.recipe import train
from latentsync.training.loop.runner import BadSample, RunConfig, run
from latentsync.training.loop.samples import REPLACEMENT, Part, Parts, part_stream
from latentsync.types import InputError

RECIPES = Path(__file__).resolve().parent.parent / "train"
pytestmark = pytest.mark.usefixtures("one_thread")


def weights(folder):
    return load_file(folder / "export" / "weights.safetensors")


def assert_same_run(found, expected) -> None:
    assert lines(found) == lines(expected)
    for name, tensor in weights(expected).items():
        assert torch.equal(weights(found)[name], tensor), name


def test_a_killed_run_gives_the_same_losses_bit_for_bit(tmp_path) -> None:
    run(LineTask(), options(), tmp_path / "whole")
    with pytest.raises(Killed):
        run(LineTask(kill_at=5), options(), tmp_path / "killed")
    assert [entry["step"] for entry in lines(tmp_path / "killed")][-1] == 5  # one more than the checkpoint holds
    run(LineTask(), options(), tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    losses = [entry["loss"] for entry in lines(tmp_path / "whole") if "loss" in entry]
    assert len(set(losses)) == 7
    run(LineTask(kill_at=0), options(), tmp_path / "whole")  # finished: nothing is trained
    assert len(list((tmp_path / "whole" / "checkpoints").iterdir())) == 2


@pytest.fixture
def forkable():
    """Forked processes do not collect what other tests left: a decoder's threads are not there to be joined."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.usefixtures("forkable")
def test_a_killed_run_gives_the_same_losses_on_two_processes(tmp_path) -> None:
    from accelerate import debug_launcher
    from torch.multiprocessing import ProcessRaisedException

    debug_launcher(in_processes, (str(tmp_path / "whole"), -1), num_processes=2)
    with pytest.raises(ProcessRaisedException, match="Killed"):
        debug_launcher(in_processes, (str(tmp_path / "killed"), 5), num_processes=2)
    debug_launcher(in_processes, (str(tmp_path / "killed"), -1), num_processes=2)
    assert_same_run(tmp_path / "killed", tmp_path / "whole")
    with pytest.raises(InputError, match="made by 2 processes and 1 are running"):
        run(LineTask(), options(), tmp_path / "whole")


@pytest.mark.parametrize(("processes", "accumulation"), [(1, 1), (2, 1), (1, 4), (2, 2)])
def test_an_update_takes_the_same_samples_however_it_is_shared_out(processes, accumulation) -> None:
    config = options(gradient_accumulation=accumulation)
    shares = [Parts(LineTask().batch, config, process, processes) for process in range(processes)]
    for step in range(3):
        parts = range(step * accumulation, (step + 1) * accumulation)
        taken = [index for part in parts for share in shares for index in share.indices(part)]
        assert taken == list(range(8 * step, 8 * step + 8))


def test_accumulated_parts_add_up_to_the_whole_batch(tmp_path) -> None:
    for parts in (1, 4):
        run(LineTask(dropout=0.0), options(gradient_accumulation=parts), tmp_path / str(parts))
    for name, tensor in weights(tmp_path / "1").items():
        torch.testing.assert_close(weights(tmp_path / "4")[name], tensor, atol=1e-5, rtol=1e-4)


def test_workers_load_the_same_samples_and_leave_the_random_state_alone() -> None:
    load, seen = LineTask(bad=[19]).batch, []
    state = torch.get_rng_state()
    for workers in (0, 2):
        parts = Parts(load, options(workers=workers), 0, 1)
        seen.append(list(part_stream(parts, first_step=2, pin_memory=False)))
    assert torch.equal(state, torch.get_rng_state())
    for alone, helped in zip(*seen, strict=True):
        assert alone.indices == helped.indices and alone.bad == helped.bad
        assert torch.equal(alone.batch["inputs"], helped.batch["inputs"])
    assert seen[0][0].indices == [16, 17, 18, 19 + REPLACEMENT]


def test_the_loader_pins_what_a_card_will_copy(monkeypatch) -> None:
    from torch.utils.data._utils.pin_memory import pin_memory

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor + 1)
    pinned = pin_memory(Part([4], {"one": torch.zeros(1), "both": [torch.zeros(1), "as it is"]}, ["bad"]))
    assert pinned == Part([4], {"one": torch.ones(1), "both": [torch.ones(1), "as it is"]}, ["bad"])


def test_a_bad_sample_is_named_counted_and_replaced(tmp_path) -> None:
    run(LineTask(bad=[3, 21]), options(), tmp_path)
    told = (tmp_path / "bad_samples.txt").read_text()
    assert told == "update 0: clip_3: it is torn\nupdate 2: clip_21: it is torn\n"
    assert lines(tmp_path)[-2]["bad_samples"] == 2


def test_too_many_bad_samples_stop_the_run(tmp_path) -> None:
    told = r"18 of 32 samples are bad.*clip_31: it is torn.*or leave them out, and start again in another run_folder"
    with pytest.raises(InputError, match=told):
        run(LineTask(bad=range(14, 100)), options(batch=8), tmp_path)


def test_a_sample_that_is_bad_only_beside_others_does_not_hang() -> None:
    def load(indices):
        if len(indices) > 1:
            raise BadSample("pair", "they differ in size")

    with pytest.raises(InputError, match="only beside others"):
        Parts(load, options(), 0, 1)[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_ends_a_run_is_one_sentence_from_a_worker_too(workers) -> None:
    parts = Parts(LineTask(bad=range(100)).batch, options(batch=32, workers=workers), 0, 1)
    with pytest.raises(
        InputError, match=r"^16 samples of one batch are bad, the last: clip_15: it is torn; check the data$"
    ):
        next(part_stream(parts, first_step=0, pin_memory=False))


@pytest.mark.parametrize("torn", ["model.safetensors", "optimizer.bin", "averages.pt", "progress.json"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_serves(torn, tmp_path) -> None:
    run(LineTask(), options(), tmp_path / "whole")
    with pytest.raises(Killed):
        run(LineTask(kill_at=5), options(), tmp_path / "killed")
    newest = tmp_path / "killed" / "checkpoints" / "step_00000004"
    (newest / torn).write_bytes((newest / torn).read_bytes()[:20])
    with pytest.raises(InputError, match=r"step_00000004 .* is damaged .* from step_00000002 before it"):
        run(LineTask(), options(), tmp_path / "killed")
    shutil.rmtree(newest)
    run(LineTask(), options(), tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_a_line_that_was_cut_off_is_written_again(tmp_path) -> None:
    run(LineTask(), options(), tmp_path / "whole")
    with pytest.raises(Killed):
        run(LineTask(kill_at=5), options(), tmp_path / "killed")
    with (tmp_path / "killed" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 1, "los')
    run(LineTask(), options(), tmp_path / "killed")
    assert_same_run(tmp_path / "killed", tmp_path / "whole")


def test_the_third_loss_that_is_not_finite_stops_the_run(tmp_path) -> None:
    run(LineTask(nan_at=[2, 4]), options(), tmp_path / "two")
    losses = [entry for entry in lines(tmp_path / "two") if "loss" in entry]
    assert [entry["not_finite"] for entry in losses] == [0, 0, 1, 1, 2, 2, 2]
    assert all(tensor.isfinite().all() for tensor in weights(tmp_path / "two").values())
    with pytest.raises(InputError, match="not finite in 3 updates, the last one number 5"):
        run(LineTask(nan_at=[0, 3, 5]), options(), tmp_path / "three")
    saved = torch.load(tmp_path / "three" / "not_finite" / "update_00000005_process_0.pt", weights_only=True)
    assert saved["indices"] == [[40, 41, 42, 43], [44, 45, 46, 47]]
    assert torch.equal(saved["batches"][1]["inputs"], LineTask().batch([44, 45, 46, 47])["inputs"])


def test_an_update_that_is_left_out_changes_no_weight(tmp_path) -> None:
    run(LineTask(nan_at=[0, 1]), options(steps=2, ema_decay=0.0), tmp_path)
    for name, tensor in LineTask().module.state_dict().items():
        assert torch.equal(weights(tmp_path)[name], tensor), name


def test_averages_are_those_of_the_formula_and_leave_the_weights_alone() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    averages, expected = Averages([parameter], decay=0.5), torch.zeros(2)
    for step in range(1, 6):
        parameter.data.fill_(float(step))
        averages.step()
        decay = 0.0 if step == 1 else min(0.5, step / (9 + step))  # the first steps count more
        expected = decay * expected + (1 - decay) * step
    with pytest.raises(KeyError), averages.applied():
        torch.testing.assert_close(parameter.data, expected)
        raise KeyError
    assert (parameter == 5).all()
    with pytest.raises(ValueError, match="other shapes"):
        Averages([torch.nn.Parameter(torch.zeros(3))], 0.5).load_state_dict(averages.state_dict())


def test_rates_belong_to_their_parts_of_the_network() -> None:
    groups = make_optimizer(LineTask(), options(betas=[0.9, 0.98])).param_groups
    assert all(group["betas"] == (0.9, 0.98) for group in groups)
    assert {tuple(group["params"][0].shape): group["lr"] for group in groups} == {(8, WIDTH): 0.05, (1, 8): 0.025}


def test_tensorboard_holds_every_loss_and_picture(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(LineTask(), options(log="tensorboard", steps=3), tmp_path)
    events = EventAccumulator(str(tmp_path / "latentsync"))
    events.Reload()
    wanted = {"loss", "loss/fit", "loss/size", "gradient_norm", "samples_per_second", "memory_gib", "validation/at_one"}
    assert wanted <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"validation/grey", "validation/still"}
    noted = [entry["loss"] for entry in lines(tmp_path) if "loss" in entry]
    assert [event.value for event in events.Scalars("loss")] == pytest.approx(noted)
    media = sorted(path.name for path in (tmp_path / "validation" / "step_00000003").iterdir())
    assert media == ["grey.png", "still.mp4"]


@pytest.mark.parametrize(("log", "package"), [("wandb", "wandb"), ("wandb-offline", "wandb"), ("tensorboard",) * 2])
def test_a_logger_that_is_not_installed_is_told_before_anything_is_done(log, package, tmp_path, monkeypatch) -> None:
    """Accelerate passed it over, and the first validation with a video ended the run hours later."""
    find = importlib.util.find_spec
    gone = (package, f"{package}X")  # accelerate would take tensorboardX too
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *more: None if name in gone else find(name, *more))
    with pytest.raises(InputError, match=rf'run\.log={log} needs {package}: pip install "latentsync\[train\]"'):
        run(LineTask(kill_at=0), options(log=log), tmp_path)
    assert not (tmp_path / "metrics.jsonl").exists()


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"betas": [0.9, 1.0]}, r"run.betas is \[0.9, 1.0\]; give two numbers"),
        ({"schedule": "linear"}, "run.schedule is 'linear'; choose one of constant, cosine"),
        ({"steps": 0}, "at least 1"),
        ({"ema_decay": 1.0}, r"\[0, 1\)"),
        ({"btch": 3}, "unknown option 'btch'; did you mean batch"),
    ],
)
def test_impossible_options_are_told(changes, told) -> None:
    with pytest.raises(InputError, match=told):
        RunConfig.from_config(OmegaConf.create({**OPTIONS, **changes}))


@pytest.mark.parametrize("computes", [False, True])
def test_bf16_is_left_to_processors_that_compute_in_it(computes, tmp_path, monkeypatch, recwarn) -> None:
    """An update took twenty times as long on a processor that only emulates it."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx512_bf16": computes}, raising=False)
    run(LineTask(), options(precision="no"), tmp_path / "float32")
    run(LineTask(), options(precision="bf16"), tmp_path / "bf16")
    same = lines(tmp_path / "bf16") == lines(tmp_path / "float32")
    told = [str(warning.message) for warning in recwarn if "it trains in float32" in str(warning.message)]
    assert (same, len(told)) == ((False, 0) if computes else (True, 1))


def test_what_does_not_go_together_is_told(tmp_path) -> None:
    with pytest.raises(InputError, match="give a multiple of 3"):
        run(LineTask(), options(gradient_accumulation=3), tmp_path)
    with pytest.raises(InputError, match="needs a graphics card"):
        run(LineTask(), options(precision="fp16"), tmp_path)
    with pytest.raises(InputError, match="pip install bitsandbytes"):
        make_optimizer(LineTask(), options(optimizer="adamw8bit"))
    with pytest.raises(InputError, match="cannot do it"):
        enable_gradient_checkpointing(LineTask().module)
    frozen = LineTask()
    frozen.module.requires_grad_(False)
    with pytest.raises(InputError, match="every parameter is frozen"):
        make_optimizer(frozen, options())


def test_a_run_folder_explains_itself_and_refuses_another_run(tmp_path, capsys) -> None:
    config = OmegaConf.create({"run_folder": str(tmp_path / "run"), "width": 1, "run": {**OPTIONS, "steps": 2}})
    train(config, lambda config: (LineTask(), "data1"), dry_run=True)
    assert "parameters: 65, of them trained: 65" in capsys.readouterr().out
    assert not (tmp_path / "run").exists()
    folder = train(config, lambda config: (LineTask(), "data1"))
    assert OmegaConf.load(folder / "config.yaml") == config
    assert '"data": "data1"' in (folder / "run.json").read_text()
    longer = OmegaConf.merge(config, {"run": {"steps": 3}})
    train(longer, lambda config: (LineTask(), "data1"))  # type: ignore[arg-type]
    assert lines(folder)[-1]["step"] == 3
    with pytest.raises(InputError, match="the data have changed"):
        train(longer, lambda config: (LineTask(), "data2"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="width was 1 and is 2"):
        train(OmegaConf.merge(config, {"width": 2}), lambda config: (LineTask(), "data1"))  # type: ignore[arg-type]


def test_a_run_killed_while_it_notes_its_configuration_goes_on(tmp_path, monkeypatch) -> None:
    config = OmegaConf.create({"run_folder": str(tmp_path / "run"), "run": {**OPTIONS, "steps": 2}})
    folder = train(config, lambda config: (LineTask(), "data"))

    def half(config, path) -> None:
        path.write_text("run_folder: ")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(records, "save_config", half)
        train(config, lambda config: (LineTask(), "data"))
    train(OmegaConf.merge(config, {"run": {"steps": 3}}), lambda config: (LineTask(), "data"))  # type: ignore[arg-type]
    assert lines(folder)[-1]["step"] == 3


@pytest.mark.parametrize("script", sorted(path.name for path in RECIPES.glob("*.py")))
def test_a_misspelt_option_of_any_recipe_is_one_sentence(script, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", [script, "videoz=[a.mp4]"])
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(RECIPES / script), run_name="__main__")
    told = capsys.readouterr().err
    assert left.value.code == 2 and ": the overrides: unknown option 'videoz'" in told
    assert told.count("\n") == 1
