"""as_array: every kind of array in, the same kind out, and clear words for what is no recording."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audiosep.audio import as_array
from audiosep.errors import InputError


@given(
    shape=st.one_of(st.tuples(st.integers(1, 50)), st.tuples(st.integers(1, 8), st.integers(9, 50))),
    data=st.data(),
)
def test_numpy_floats_come_back_as_they_went_in(shape: tuple[int, ...], data: st.DataObject) -> None:
    mix = data.draw(hnp.arrays(np.float32, shape, elements=st.floats(-2, 2, width=32)))
    array, restore = as_array(mix)
    assert array.dtype == np.float32
    assert array.shape == (1, *shape) if len(shape) == 1 else shape
    back = restore(array)
    assert isinstance(back, np.ndarray)
    np.testing.assert_array_equal(back, mix)


@pytest.mark.parametrize(("dtype", "full"), [(np.int16, 2**15), (np.int32, 2**31)])
def test_integers_are_fractions_of_full_scale(dtype: type, full: int) -> None:
    array, _ = as_array(np.array([-full, 0, full // 2, full - 1], dtype))
    np.testing.assert_allclose(array, [[-1, 0, 0.5, (full - 1) / full]], rtol=1e-7)


def test_integers_in_the_other_byte_order_are_the_same_samples() -> None:
    samples = np.array([-(2**15), 0, 1, 2**15 - 1], np.int16)
    np.testing.assert_array_equal(as_array(samples.astype(">i2"))[0], as_array(samples)[0])


def test_other_layouts_and_widths() -> None:
    base = np.arange(24, dtype=np.float64).reshape(2, 12) / 24
    for mix in (base, base[:, ::-1], np.asfortranarray(base), base.astype(np.float16), base[:, ::3]):
        array, restore = as_array(mix)
        assert array.flags.c_contiguous
        np.testing.assert_allclose(restore(array), mix, rtol=1e-3)
        assert restore(array).dtype == np.float32


def test_restore_takes_stacks_of_results() -> None:
    array, restore = as_array(np.zeros(10, np.float32))
    assert restore(np.stack([array, array, array])).shape == (3, 10)
    array, restore = as_array(np.zeros((2, 10), np.float32))
    assert restore(np.stack([array, array, array])).shape == (3, 2, 10)


def test_tensors_without_samples_of_their_own_are_refused() -> None:
    torch = pytest.importorskip("torch")
    for mix in (torch.ones(2, 9).to_sparse(), torch.ones(2, 9, device="meta")):
        with pytest.raises(InputError, match="dense tensor"):
            as_array(mix)


def test_torch_tensors_come_back_as_tensors() -> None:
    torch = pytest.importorskip("torch")
    for mix in (
        torch.linspace(-1, 1, 20),
        torch.linspace(-1, 1, 20).reshape(2, 10).requires_grad_(),
        torch.linspace(-1, 1, 20).reshape(10, 2).T,
        torch.linspace(-1, 1, 20, dtype=torch.bfloat16),
        torch.arange(20, dtype=torch.int16),
    ):
        array, restore = as_array(mix)
        assert isinstance(array, np.ndarray)
        back = restore(array)
        assert isinstance(back, torch.Tensor)
        assert back.shape == mix.shape
        assert back.device == mix.device
        assert back.dtype == torch.float32
        if mix.is_floating_point():
            torch.testing.assert_close(back, mix.detach().float())


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (np.ma.masked_equal(np.zeros((1, 100), np.float32), 0), "masked"),
        (np.zeros((48_000, 2), np.float32), "looks like .samples, channels."),
        (np.zeros((9, 9), np.float32), "1 to 8 channels, got 9"),
        (np.zeros((1, 2, 100), np.float32), "one by one"),
        (np.array(1.0), r"got \(\)"),
        (np.zeros((0,), np.float32), "no samples"),
        (np.zeros((2, 0), np.float32), "no samples"),
        (np.zeros((0, 2), np.float32), "no samples"),
        (np.array([0.0, np.nan]), "nan at sample 1, channel 1"),
        (np.array([[0.0, 0.0], [0.0, np.inf]]), "inf at sample 1, channel 2"),
        (np.array([1e300]), "inf at sample 0"),
        (np.zeros(10, np.uint8), "got uint8"),
        (np.zeros(10, np.int64), "got int64"),
        (np.zeros(10, complex), "got complex128"),
        (np.zeros(10, bool), "got bool"),
        (np.array(["a"]), "got <U1"),
        (np.array([None]), "got object"),
        ([0.0, 0.1], "got list"),
        (None, "got NoneType"),
    ],
)
def test_what_is_no_recording_is_refused(mix: object, words: str) -> None:
    with pytest.raises(InputError, match=words):
        as_array(mix)


def test_the_audio_package_never_loads_torch() -> None:
    code = (
        "import sys, numpy, audiosep.audio as a; a.as_array(numpy.zeros(4)); "
        "assert not {'torch', 'transformers', 'av'} & set(sys.modules), sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
