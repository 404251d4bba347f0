"""The published stem models: where their weights are, their stems, their licences."""

from __future__ import annotations

from audiosep.weights.model_entry import ModelEntry, PublishedFile

FOUR = ("vocals", "drums", "bass", "other")
SIX = ("vocals", "drums", "bass", "guitar", "piano", "other")

# https://github.com/facebookresearch/demucs/issues/327: the weights are not under the MIT licence of the code.
_SCIENTIFIC = "scientific use only"
_MB = 1_000_000


def _demucs(
    name: str, description: str, stems: tuple[str, ...], repo: str, networks: tuple[str, ...], mb: int
) -> ModelEntry:
    """A model of the package demucs: safetensors on the hub, named by its signatures."""
    table = (PublishedFile(repo, f"{name}.yaml"),) if len(networks) > 1 else ()
    files = tuple(PublishedFile(repo, f"{network}.safetensors", about_bytes=mb * _MB) for network in networks)
    return _entry(name, description, _SCIENTIFIC, stems, (*table, *files), "demucs")


def _torchaudio(name: str, description: str, licence: str, stems: tuple[str, ...], file: str, mb: int) -> ModelEntry:
    place = "https://download.pytorch.org/torchaudio/models"
    source = PublishedFile(place, file, about_bytes=mb * _MB)
    return _entry(name, description, licence, stems, (source,), "torchaudio")


def _openunmix(name: str, description: str, licence: str, record: int, files: tuple[str, ...], mb: int) -> ModelEntry:
    """A model of Open-Unmix: a file for each stem, whose name holds the first digits of its sha256."""
    place = f"https://zenodo.org/records/{record}/files"
    sources = tuple(
        PublishedFile(place, file, sha256=file.removesuffix(".pth").split("-")[1], about_bytes=mb * _MB)
        for file in files
    )
    return _entry(name, description, licence, FOUR, sources, "openunmix")


def _entry(
    name: str,
    description: str,
    licence: str,
    stems: tuple[str, ...],
    sources: tuple[PublishedFile, ...],
    extra: str,
) -> ModelEntry:
    return ModelEntry(
        name,
        "published",
        description,
        licence,
        frozenset({"stems"}),
        sources,
        stems,
        extra=extra,
    )


_CONFIGS = "https://raw.githubusercontent.com/ZFTurbo/Music-Source-Separation-Training/main/configs"

STEM_MODELS = (
    _demucs(
        "htdemucs",
        "Hybrid Transformer Demucs v4 (Rouard et al., 2023), MUSDB18-HQ and 800 songs.",
        FOUR,
        "adefossez/HTDemucs",
        ("955717e8",),
        84,
    ),
    _demucs(
        "htdemucs_ft",
        "The same, a network fine-tuned for each stem: a little better, four times slower.",
        FOUR,
        "adefossez/HTDemucs-ft",
        ("f7e0c4bc", "d12395a8", "92cfc3b6", "04573f0d"),
        84,
    ),
    _demucs(
        "htdemucs_6s",
        "The same with guitar and piano; its authors call the piano experimental.",
        SIX,
        "adefossez/HTDemucs-6s",
        ("5c90dfd2",),
        55,
    ),
    _demucs(
        "hdemucs_mmi",
        "Hybrid Demucs v3 (Defossez, 2021), MUSDB18-HQ and 800 songs.",
        FOUR,
        "adefossez/Demucs-hdemucs_mmi",
        ("75fc33f5",),
        167,
    ),
    _torchaudio(
        "hdemucs",
        "Hybrid Demucs v3 (Defossez, 2021), training songs of MUSDB18-HQ, from torchaudio.",
        _SCIENTIFIC,
        FOUR,
        "hdemucs_high_musdbhq_only.pt",
        335,
    ),
    _torchaudio(
        "hdemucs-plus",
        "The same, all songs of MUSDB18-HQ and 150 more: scores on its test songs do not count.",
        _SCIENTIFIC,
        FOUR,
        "hdemucs_high_trained.pt",
        335,
    ),
    _torchaudio(
        "convtasnet",
        "Conv-TasNet (Luo and Mesgarani, 2019) for two talkers at 8 kHz, Libri2Mix, from torchaudio.",
        "not stated, trained on CC BY 4.0",
        ("speaker 1", "speaker 2"),
        "conv_tasnet_base_libri2mix.pt",
        20,
    ),
    _openunmix(
        "umxhq",
        "Open-Unmix with its Wiener filter (Stoeter et al., 2019), training songs of MUSDB18-HQ.",
        "MIT",
        3370489,
        ("vocals-b62c91ce.pth", "drums-9619578f.pth", "bass-8d85a5bd.pth", "other-b52fbbf7.pth"),
        36,
    ),
    _openunmix(
        "umxl",
        "The same network, wider, trained on more songs.",
        "CC BY-NC-SA 4.0, non-commercial",
        5069601,
        ("vocals-bccbd9aa.pth", "drums-69e0ebd4.pth", "bass-2ca1ce51.pth", "other-c8c5b3e6.pth"),
        113,
    ),
    _entry(
        "bs-roformer",
        "BS-RoFormer (Lu et al., 2023), vocals, trained by viperx.",
        "not stated by its author",
        ("vocals", "other"),
        (
            PublishedFile(
                "https://github.com/TRvlvr/model_repo/releases/download/all_public_uvr_models",
                "model_bs_roformer_ep_317_sdr_12.9755.ckpt",
                about_bytes=639 * _MB,
            ),
            PublishedFile(f"{_CONFIGS}/viperx", "model_bs_roformer_ep_317_sdr_12.9755.yaml"),
        ),
        "roformer",
    ),
    _entry(
        "mel-band-roformer",
        "Mel-Band RoFormer (Wang et al., 2023), vocals, trained by Kimberley Jensen.",
        "not stated by its author",
        ("vocals", "other"),
        (
            PublishedFile("KimberleyJSN/melbandroformer", "MelBandRoformer.ckpt", about_bytes=913 * _MB),
            PublishedFile(f"{_CONFIGS}/KimberleyJensen", "config_vocals_mel_band_roformer_kj.yaml"),
        ),
        "roformer",
    ),
)
