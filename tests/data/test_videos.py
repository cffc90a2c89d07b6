"""Videos as files: what is read equals what was written, and each broken file is refused by name."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sightline import Clip, InputError, read_image
from sightline.data.images import image_size
from sightline.data.videos import is_video, read_clip, video_header, write_video

av = pytest.importorskip("av")


def moving(frames: int = 16, height: int = 48, width: int = 64) -> np.ndarray:
    """[T, H, W, 3]: a red square that moves by 3 pixels a frame over a grey floor that becomes brighter."""
    made = np.zeros((frames, height, width, 3), np.uint8)
    for t in range(frames):
        made[t] = 40 + 8 * t % 160
        made[t, 8:24, t % 16 * 3 : t % 16 * 3 + 16] = (200, 30, 60)
    return made


@pytest.fixture(scope="module")
def video(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "two.mp4"
    write_video(path, moving(), 8)
    return path


def test_what_is_written_is_read(video):
    clip = read_clip(video)
    assert isinstance(clip, Clip)
    assert (tuple(clip.shape), clip.dtype, clip.duration) == ((3, 16, 48, 64), torch.uint8, 2.0)
    assert clip.times == tuple(k / 8 for k in range(16))
    pixels = clip.as_subclass(torch.Tensor).permute(1, 2, 3, 0).numpy().astype(int)
    assert np.abs(pixels - moving()).mean() < 3  # colours have half the resolution
    assert video_header(video) == ((48, 64), 2.0, 8.0)


def test_an_image_reader_reads_videos(video):
    assert is_video("A.MP4")
    assert not is_video("a.png")
    assert torch.equal(torch.as_tensor(read_image(video)), torch.as_tensor(read_clip(video)))
    assert image_size(video) == (48, 64)


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ({"rate": 4}, [0, 0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75]),
        ({"rate": 3}, [0, 0.375, 0.75, 1, 1.375, 1.75]),  # the frames at or after 0, 1/3, 2/3, …
        ({"rate": 100}, [k / 8 for k in range(16)]),
        ({"most": 4}, [0, 0.5, 1, 1.5]),
    ],
)
def test_frames_are_kept_at_a_rate(video, options, times):
    assert read_clip(video, **options).times == pytest.approx(times)


def test_large_frames_become_smaller_and_grey_is_one_channel(video):
    assert tuple(read_clip(video, side=32).shape) == (3, 16, 24, 32)
    grey, colour = read_clip(video, 1), read_clip(video)
    luma = torch.tensor([0.299, 0.587, 0.114])[:, None, None, None]
    assert tuple(grey.shape) == (1, 16, 48, 64)
    assert ((colour * luma).sum(0) - grey[0].float()).abs().max() <= 0.5
    with pytest.raises(InputError, match=r"two\.mp4 is a video with 3 channels, but the model takes 4"):
        read_clip(video, 4)


def test_a_duration_that_is_not_stated_does_not_fill_the_memory(video, monkeypatch):
    monkeypatch.setattr("sightline.data.videos.stated_duration", lambda container, stream: 0.0)
    clip = read_clip(video, most=5)
    assert clip.frames <= 5
    assert clip.times == pytest.approx([0, 0.5, 1, 1.5])
    assert clip.duration == pytest.approx(2.0)


def test_odd_sizes_are_written(tmp_path):
    write_video(tmp_path / "odd.mp4", moving(4, 33, 47), 5)
    assert tuple(read_clip(tmp_path / "odd.mp4").shape) == (3, 4, 33, 47)


def cut(path: Path, share: float) -> bytes:
    data = path.read_bytes()
    return data[: int(len(data) * share)]


def test_broken_videos_are_refused_by_name(video, tmp_path):
    write_video(tmp_path / "long.mkv", moving(64), 8)
    broken = {
        "empty.mp4": (b"", "cannot read the video .*empty.mp4: the file is empty"),
        "text.mp4": (b"hello " * 50, "text.mp4: it is damaged, truncated or no video"),
        "cut.mp4": (cut(video, 0.6), "cut.mp4: it is damaged, truncated or no video"),
        "half.mkv": (
            cut(tmp_path / "long.mkv", 0.5),
            "half.mkv is truncated: its frames end at .* should be 8.0 s long",
        ),
        "list.ts": (f"#EXTM3U\n#EXTINF:2,\n{video}\n".encode(), "list.ts: it is damaged, truncated or no video"),
    }
    for name, (data, words) in broken.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=words):
            read_clip(tmp_path / name)
    with pytest.raises(InputError, match=r"there is no video .*gone\.mp4"):
        read_clip(tmp_path / "gone.mp4")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match=r"folder\.mp4"):
        read_clip(tmp_path / "folder.mp4")


def test_a_frame_that_the_decoder_could_only_guess_is_refused(video, tmp_path):
    """The container is whole, and all frames are decoded; the data of some frames is not what was written."""
    noise = np.random.default_rng(0).integers(0, 256, (16, 48, 64, 3), np.uint8)
    whole, hurt = tmp_path / "whole.mp4", tmp_path / "hurt.mp4"
    write_video(whole, noise, 8)
    data = whole.read_bytes()
    middle = len(data) // 2
    hurt.write_bytes(data[:middle] + bytes(200) + data[middle + 200 :])
    assert read_clip(whole).frames == 16
    with pytest.raises(InputError, match=r"hurt\.mp4 (has a damaged frame at|after) \d\.\d s"):
        read_clip(hurt)


def test_a_video_of_an_unknown_codec_is_refused_by_name(video, tmp_path):
    path = tmp_path / "odd.mp4"
    path.write_bytes(video.read_bytes().replace(b"avc1", b"zzz9"))
    with pytest.raises(InputError, match=r"odd\.mp4: its codec is unknown, or it is damaged; convert it to H\.264, or"):
        read_clip(path)


def test_a_video_of_sound_alone_is_refused(tmp_path):
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    with pytest.raises(InputError, match=r"sound\.mp4 has no pictures, only sound or data"):
        read_clip(tmp_path / "sound.mp4")


def test_without_pyav_the_message_says_what_to_install(video, monkeypatch):
    monkeypatch.setattr("sightline.runtime.optional.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"needs PyAV, which is not installed: pip install 'sightline\[video\]'"):
        read_clip(video)


def test_what_cannot_be_written(tmp_path):
    with pytest.raises(InputError, match=r"must be \[T, H, W, 3\] of uint8"):
        write_video(tmp_path / "a.mp4", np.zeros((0, 8, 8, 3), np.uint8), 8)
    with pytest.raises(InputError, match=r"a\.mp4 cannot be written"):
        write_video(tmp_path / "no" / "a.mp4", moving(2), 8)
