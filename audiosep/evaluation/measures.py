"""The measures of an evaluation: names, definitions and groups."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Measure:
    """One kind of number in results and tables.

    Attributes:
        name: key in results.
        title: heading in tables.
        unit: "dB", "%" or "".
        definition: what it is and where it comes from, one or two sentences.
        weighted: whether its mean weights clips by their length.
        median: whether tables show the median of the clips instead of the mean.
    """

    name: str
    title: str
    unit: str
    definition: str
    weighted: bool = False
    median: bool = False


_MEASURES = (
    Measure(
        "si_sdri",
        "SI-SDRi",
        "dB",
        "Improvement of SI-SDR over the mixture. SI-SDR: 10 log10(|a s|^2 / |a s - e|^2) with a = <e, s> / <s, s>, "
        "mean not removed, one a for all channels (Le Roux et al. 2019). A silent estimate counts as -100 dB.",
    ),
    Measure("better", "better", "%", "Share of clips whose SI-SDR improved by more than 0.01 dB."),
    Measure(
        "sdri",
        "SDRi",
        "dB",
        "Improvement of SDR over the mixture. Turning the volume down is worth up to 3 dB of it at equal levels and "
        "more on quiet targets: see best-gain.",
    ),
    Measure(
        "sdr",
        "SDR",
        "dB",
        "10 log10(|s|^2 / |s - e|^2) over the whole clip and all channels: the SDR of the AudioSep papers (Liu et al. "
        "2023) and of the Sound Demixing Challenge, not that of BSS Eval.",
    ),
    Measure("si_sdr", "SI-SDR", "dB", "Scale-invariant SDR itself, as above."),
    Measure(
        "si_sir",
        "SI-SIR",
        "dB",
        "Target against the other true sources in the estimate, by least squares on the sources without delays "
        "(Le Roux et al. 2019, equation 6).",
    ),
    Measure(
        "wrong",
        "wrong source",
        "%",
        "Share of clips whose estimate is closer (in SI-SDR) to another true source than to the target.",
    ),
    Measure(
        "leak",
        "leak",
        "dB",
        "Level of the target in the residual mix - e, 20 log10|g|, with g by least squares on the true sources. "
        "0 dB: the residual still holds all of the target.",
    ),
    Measure(
        "suppression",
        "absent: down by",
        "dB",
        "Only where the queried sound is not in the mixture: 10 log10(|mix|^2 / |e|^2), how far the output lies below "
        "the mixture, at most 100 dB.",
    ),
    Measure("level", "level", "dB", "10 log10(|e|^2 / |mix|^2), the level of the output, at least -100 dB."),
    Measure("presence", "presence", "", "The system's own score that the queried sound is in the mixture, 0 to 1."),
    Measure(
        "bss_sdr",
        "BSS SDR",
        "dB",
        "BSS Eval v3 (Vincent et al. 2006): distortion filters of 512 taps, sources {target, rest}, whole clip, mean "
        "of the channels, by fast_bss_eval. Undefined for silent estimates.",
    ),
    Measure("bss_sir", "BSS SIR", "dB", "Source-to-interference ratio of BSS Eval v3, as above."),
    Measure("bss_sar", "BSS SAR", "dB", "Source-to-artefacts ratio of BSS Eval v3, as above."),
    Measure(
        "nsdr",
        "GNSDR",
        "dB",
        "NSDR = BSS SDR(e) - BSS SDR(mix); its mean over clips weighted by their length is GNSDR (Hsu & Jang 2010).",
        weighted=True,
    ),
    Measure(
        "csdr",
        "cSDR",
        "dB",
        "BSS Eval v4 as in SiSEC 2018 (Stoeter et al. 2018): median over windows of 1 s, by museval, with sources "
        "{target, rest}; the table shows the median over clips, as is usual for MUSDB18.",
        median=True,
    ),
    Measure("isr", "ISR", "dB", "Image-to-spatial-distortion ratio of BSS Eval v4, medians as for cSDR.", median=True),
    Measure("csir", "cSIR", "dB", "Source-to-interference ratio of BSS Eval v4, medians as for cSDR.", median=True),
    Measure("csar", "cSAR", "dB", "Source-to-artefacts ratio of BSS Eval v4, medians as for cSDR.", median=True),
    Measure("pesq", "PESQ", "", "ITU-T P.862.2 wide band, MOS-LQO, mono at 16 kHz, by pesq. Speech only."),
    Measure("stoi", "STOI", "", "Short-time objective intelligibility (Taal et al. 2011), by pystoi. Speech only."),
    Measure(
        "clap",
        "CLAPScore",
        "",
        "Cosine between the CLAP embeddings of the estimate and the query's text (Xiao et al. 2024). Needs no true "
        "source; the CLAP that scored is named under the table.",
    ),
    Measure(
        "clap_audio", "CLAPScore-A", "", "Cosine between the CLAP embeddings of the estimate and of the true target."
    ),
)
MEASURES = {measure.name: measure for measure in _MEASURES}

GROUPS: dict[str, tuple[str, ...]] = {
    "plain": (
        *("si_sdri", "better", "sdri", "sdr", "si_sdr", "si_sir", "wrong", "leak", "suppression"),
        *("level", "presence"),
    ),
    "bss": ("bss_sdr", "bss_sir", "bss_sar", "nsdr"),
    "museval": ("csdr", "isr", "csir", "csar"),
    "speech": ("pesq", "stoi"),
    "clap": ("clap", "clap_audio"),
}
"""Groups of measures that are computed together; `plain` is always computed."""
