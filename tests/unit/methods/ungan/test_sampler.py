"""Test the rows and ε that UnGAN's sampler draws."""

from __future__ import annotations

import copy

import pytest
import torch
from batch_order import cycle_batches
from ungan_request import BATCH, CLASSES, SEED, SMALL, make_config, make_request

from ungan_dist.data.examples import gather
from ungan_dist.data.seeds import derive_seed
from ungan_dist.methods.ungan.sampler import Sampler


@pytest.mark.parametrize("augmented", [False, True])
def test_unseen_rows_are_the_originals_outputs_and_the_labels(augmented: bool) -> None:
    given = make_request()
    calls: list[int] = []
    given.original.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    draws = Sampler(given, make_config(augment_adversarial=augmented))
    batches = cycle_batches(given.unseen, BATCH, seed=derive_seed("ungan", "unseen", SEED))
    rows = [draws.embed_unseen(*draws.draw("unseen")) for _ in range(6)]
    assert sum(calls) == (6 * BATCH if augmented else len(given.unseen))  # cached: each unseen example once
    augment = given.train.augment if augmented else None
    for row in rows:
        epoch, indices = next(batches)
        seed = derive_seed("ungan augment", "unseen", SEED)
        logits = given.original(gather(given.data, indices, augment=augment, seed=seed, epoch=epoch))
        torch.testing.assert_close(row[:, :CLASSES], logits, rtol=1e-12, atol=1e-12)
        assert torch.equal(row[:, CLASSES:], torch.eye(CLASSES, dtype=torch.float64)[given.data.labels[indices]])


def test_the_two_forget_streams_are_independent() -> None:
    draws = Sampler(make_request(), SMALL)
    original = make_request().original
    first, second = (
        torch.cat([draws.embed_forget(original, *draws.draw(name))[0] for _ in range(9)])
        for name in ("forget", "forget 2")
    )
    assert not torch.equal(first, second)
    torch.testing.assert_close(first.sort(0).values, second.sort(0).values)  # the same 9 examples, 4 times each


@pytest.mark.parametrize("training", [False, True])
def test_both_forget_batches_have_one_forward_pass_unless_batch_norm_would_mix_them(training: bool) -> None:
    given = make_request()
    generator = given.copy_original().train(training)
    draws = Sampler(given, SMALL)
    rows = draws.draw("forget", "forget 2")
    apart = [draws.embed_forget(copy.deepcopy(generator), batch)[0] for batch in rows]
    calls: list[int] = []
    generator.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    together = draws.embed_forget(generator, *rows)
    assert calls == ([BATCH, BATCH] if training else [2 * BATCH])
    for one, other in zip(together, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)


def test_epsilon_is_drawn_per_row_or_per_batch_at_every_step() -> None:
    rows, batch = (Sampler(make_request(), make_config(epsilon_per=per)) for per in ("row", "batch"))
    by_row, by_batch = rows.sample_epsilon(), batch.sample_epsilon()
    assert by_row.shape == by_batch.shape == (BATCH, 1)
    assert len(by_row.unique()) == BATCH
    assert len(by_batch.unique()) == 1
    assert not torch.equal(rows.sample_epsilon(), by_row)
    draws = torch.cat([rows.sample_epsilon() for _ in range(500)])
    assert 0 <= draws.min() < 0.01
    assert 0.99 < draws.max() < 1
    assert draws.mean().item() == pytest.approx(0.5, abs=4 * (1 / 12 / 2000) ** 0.5)
