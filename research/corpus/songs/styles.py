"""Styles of music: grooves, harmony, instruments and sound of each.

Patterns have 16 steps a bar (12 in waltzes and shuffles): `X` is a loud stroke, `x` a soft one, `o` one that is played
half of the time.
"""

from __future__ import annotations

from dataclasses import dataclass

# Programs of General MIDI, counted from 0, that are played, and their labels.
PROGRAMS = {
    0: "piano",
    3: "honky-tonk piano",
    4: "electric piano",
    6: "harpsichord",
    7: "clavinet",
    9: "glockenspiel",
    10: "music box",
    11: "vibraphone",
    12: "marimba",
    13: "xylophone",
    14: "tubular bells",
    16: "organ",
    19: "church organ",
    20: "harmonium",
    21: "accordion",
    22: "harmonica",
    24: "classical guitar",
    25: "acoustic guitar",
    26: "electric guitar",
    27: "electric guitar",
    28: "muted electric guitar",
    30: "distorted guitar",
    32: "upright bass",
    33: "bass guitar",
    34: "bass guitar",
    35: "fretless bass",
    36: "slap bass",
    38: "synth bass",
    39: "synth bass",
    40: "violin",
    41: "viola",
    42: "cello",
    43: "double bass",
    45: "pizzicato strings",
    46: "harp",
    48: "string ensemble",
    50: "synth strings",
    56: "trumpet",
    57: "trombone",
    58: "tuba",
    59: "muted trumpet",
    60: "french horn",
    61: "brass section",
    62: "synth brass",
    64: "soprano saxophone",
    65: "alto saxophone",
    66: "tenor saxophone",
    67: "baritone saxophone",
    68: "oboe",
    69: "english horn",
    70: "bassoon",
    71: "clarinet",
    72: "piccolo",
    73: "flute",
    74: "recorder",
    75: "pan flute",
    77: "shakuhachi",
    78: "whistle",
    79: "ocarina",
    80: "synth lead",
    81: "synth lead",
    88: "synth pad",
    89: "synth pad",
    95: "synth pad",
    104: "sitar",
    105: "banjo",
    106: "shamisen",
    107: "koto",
    108: "kalimba",
    109: "bagpipe",
    110: "fiddle",
    114: "steel drums",
}
KEYS = (0, 3, 4, 6, 7, 16, 24, 26, 46)
PADS = (48, 50, 88, 89, 95, 19, 61, 62)
LEADS = tuple(program for program in PROGRAMS if not 32 <= program <= 39 and program not in (*PADS, *KEYS))


@dataclass(frozen=True)
class Groove:
    """Drum patterns of a bar.

    Args:
        kick: pattern of the bass drum; here and below, empty: not played.
        snare: of the snare drum.
        hat: of the hi-hat.
        ride: of the ride cymbal.
        percussion: of shakers, tambourines, congas.
        clap: of hand claps.
    """

    kick: str
    snare: str
    hat: str = ""
    ride: str = ""
    percussion: str = ""
    clap: str = ""


@dataclass(frozen=True)
class Style:
    """One style.

    Args:
        tempo: lowest and highest, beats a minute.
        grooves: drum patterns of verse and chorus.
        bass: how the bass plays: see `composing.bass_line`.
        basses: instruments: see `players`.
        comping: patterns of chords.
        chords: "triad", "seventh" or "power".
        minor: probability of a minor key.
        swing: how late every second step is, 0 to 0.33 of two steps.
        kits: drum kits that fit.
        keys: programs that fit for chords.
        pads: for held chords.
        leads: for melodies.
        guitar: "clean", "crunch", "distorted", "acoustic" or "" for none.
        vocals: probability of singing.
        beats: in a bar.
    """

    tempo: tuple[int, int]
    grooves: tuple[Groove, Groove]
    bass: str
    basses: tuple[str, ...]
    comping: tuple[str, ...]
    chords: str = "triad"
    minor: float = 0.4
    swing: float = 0.0
    kits: tuple[str, ...] = ("muldjordkit", "oramics pearl-master-studio", "karoryfer gogodze phu ii")
    keys: tuple[int, ...] = KEYS
    pads: tuple[int, ...] = PADS
    leads: tuple[int, ...] = LEADS
    guitar: str = ""
    vocals: float = 0.9
    beats: int = 4


_MACHINES = ("oramics lm-2", "oramics tr-505", "oramics cr-78", "oramics mrk-2")
_PICKED = ("karoryfer pastabass fetuccine", "karoryfer growlybass", "karoryfer pastabass linguine", "34", "33")
_UPRIGHT = ("karoryfer meatbass", "dsmolken double bass", "32")

ROCK = Groove("X.....x.X.......", "....X.......X...", "X.x.X.x.X.x.X.x.")
ROCK2 = Groove("X..x..X.X..x....", "....X.......X..o", "", "X.X.X.X.X.X.X.X.")
STOMP = Groove("X...X...X...X...", "....X.......X...", "..X...X...X...X.", "", "o.xoo.xoo.xoo.xo")
SIXTEENTHS = Groove("X.....Xx..X.....", "....X..o.o..X..o", "XxxxXxxxXxxxXxxx")
BOSSA = Groove("X..xX..xX..xX..x", "x..x..x...x..x..", "x.x.x.x.x.x.x.x.", "", "x.xxx.xxx.xxx.xx")
REGGAE = Groove("........X.......", "........X.......", "x.o.x.o.x.o.x.o.", "", "..x...x...x...x.")
TRAP = Groove("X.....X...X..o..", "........X.......", "XxXxXxXxXxxxXxXx", "", "", "........X.......")
BREAK = Groove("X.X.......XX....", "....X..o.o..X..o", "X.X.X.X.X.X.X.X.")
METAL = Groove("XxxxXxxxXxxxXxxx", "....X.......X...", "", "X...X...X...X...")
BALLAD = Groove("X.......x.X.....", "....X.......X...", "x.x.x.x.x.x.x.x.")
BRUSHES = Groove("X...o...X...o...", "o..x..o...x...xo", "....X.......X...", "X...X..xX...X..x")
TRAIN = Groove("X...X...X...X...", "xxXxxxXxxxXxxxXx", "")
WALTZ = Groove("X...........", "....x...x...", "x...x...x...", "", "")
SHUFFLE = Groove("X.....X.....", "...X.....X..", "X.xX.xX.xX.x")
LATIN = Groove("X..X..X.X..X..X.", "...X..X....X..X.", "x.x.x.x.x.x.x.x.", "", "XxxXxxXxXxxXxxXx")
MOTOWN = Groove("X..x..x.X..x....", "X...X...X...X...", "x.x.x.x.x.x.x.x.", "", "X.X.X.X.X.X.X.X.")

STYLES = {
    "rock": Style(
        (96, 150),
        (ROCK, ROCK2),
        "eighths",
        _PICKED,
        ("X.X.X.X.X.X.X.X.", "X..X..X.X..X..X."),
        "power",
        0.4,
        guitar="crunch",
        leads=(80, 65, 16, 27),
    ),
    "pop": Style(
        (88, 128),
        (BALLAD, ROCK),
        "syncopated",
        _PICKED,
        ("X...X...X...X...", "X..X..X...X.X..."),
        minor=0.35,
        guitar="clean",
    ),
    "ballad": Style(
        (62, 84), (BALLAD, BALLAD), "long", _PICKED, ("arpeggio", "X.......X......."), minor=0.4, guitar="clean"
    ),
    "funk": Style(
        (92, 116),
        (SIXTEENTHS, SIXTEENTHS),
        "funk",
        (*_PICKED, "36"),
        ("..X..x....X..X..", "x.X...xX..X...x."),
        "seventh",
        0.7,
        guitar="clean",
        leads=(56, 65, 66, 57, 7),
    ),
    "disco": Style(
        (112, 126),
        (STOMP, STOMP),
        "octaves",
        _PICKED,
        ("..X...X...X...X.", "..XX..XX..XX..XX"),
        "seventh",
        0.6,
        guitar="clean",
        pads=(48, 50),
        leads=(48, 56, 73, 40),
    ),
    "house": Style(
        (118, 128),
        (STOMP, STOMP),
        "offbeat",
        ("saw bass", "square bass", "38"),
        ("X..X..X..X..X.X.", "..X...X...X...X."),
        "seventh",
        0.7,
        kits=_MACHINES,
        keys=(0, 4, 16),
        leads=(80, 11, 73),
    ),
    "techno": Style(
        (124, 138),
        (STOMP, STOMP),
        "sixteenths",
        ("saw bass", "square bass"),
        ("X..X..X..X..X..X",),
        "triad",
        0.9,
        kits=_MACHINES,
        leads=(80, 12),
        vocals=0.4,
    ),
    "synthwave": Style(
        (84, 112),
        (ROCK, STOMP),
        "eighths",
        ("saw bass", "39"),
        ("X...............", "arpeggio"),
        minor=0.8,
        kits=_MACHINES,
        leads=(80, 65),
        keys=(4, 7),
    ),
    "hip hop": Style(
        (78, 98),
        (BREAK, BREAK),
        "syncopated",
        ("square bass", *_UPRIGHT),
        ("X.......X..X....", "..X.......X....."),
        "seventh",
        0.7,
        0.12,
        ("oramics lm-2", "oramics pearl-master-studio", "karoryfer gogodze phu ii"),
    ),
    "trap": Style(
        (66, 80), (TRAP, TRAP), "long", ("sine bass",), ("X...............", "arpeggio"), minor=0.95, kits=_MACHINES
    ),
    "drum and bass": Style(
        (160, 174),
        (BREAK, BREAK),
        "long",
        ("saw bass", "sine bass"),
        ("X...............", "X.....X........."),
        "seventh",
        0.85,
        leads=(80, 73, 11),
    ),
    "metal": Style(
        (110, 170),
        (METAL, ROCK),
        "sixteenths",
        ("karoryfer growlybass", "34"),
        ("XxxxXxxxXxxxXxxx", "X.xxX.xxX.xxX.xx"),
        "power",
        0.95,
        guitar="distorted",
        leads=(30, 80),
        kits=("muldjordkit",),
    ),
    "punk": Style(
        (160, 196),
        (ROCK, ROCK2),
        "eighths",
        ("karoryfer growlybass", "34"),
        ("XxXxXxXxXxXxXxXx",),
        "power",
        0.2,
        guitar="distorted",
        leads=(30, 16),
    ),
    "indie": Style(
        (104, 140),
        (ROCK2, ROCK),
        "eighths",
        _PICKED,
        ("X.xXx.XxX.xXx.Xx", "arpeggio"),
        minor=0.4,
        guitar="clean",
        kits=("karoryfer gogodze phu ii", "muldjordkit"),
    ),
    "country": Style(
        (92, 132),
        (TRAIN, TRAIN),
        "root fifth",
        (*_UPRIGHT, *_PICKED),
        ("..X...X...X...X.", "X.x.X.xxX.x.X.xx"),
        minor=0.1,
        guitar="acoustic",
        leads=(105, 110, 22, 27),
    ),
    "folk": Style(
        (84, 120),
        (BALLAD, TRAIN),
        "root fifth",
        _UPRIGHT,
        ("arpeggio", "X.xxX.xxX.xxX.xx"),
        minor=0.3,
        guitar="acoustic",
        leads=(110, 73, 22, 74, 78, 21, 46),
    ),
    "jazz": Style(
        (96, 168),
        (BRUSHES, BRUSHES),
        "walking",
        _UPRIGHT,
        ("...X......X.....", "X.....X........."),
        "seventh",
        0.4,
        0.28,
        ("karoryfer gogodze phu ii", "oramics pearl-master-studio"),
        (0, 4),
        leads=(56, 59, 65, 66, 11, 71, 26),
        vocals=0.7,
    ),
    "bossa nova": Style(
        (112, 140),
        (BOSSA, BOSSA),
        "root fifth",
        _UPRIGHT,
        ("X..X..X...X..X..", "X.X..X..X.X..X.."),
        "seventh",
        0.4,
        guitar="acoustic",
        leads=(73, 66, 11, 57),
        kits=("karoryfer gogodze phu ii", "oramics cr-78"),
    ),
    "reggae": Style(
        (68, 88),
        (REGGAE, REGGAE),
        "reggae",
        _PICKED,
        ("..X...X...X...X.", "....X.......X..."),
        minor=0.5,
        guitar="clean",
        keys=(16, 0),
        leads=(57, 56, 22, 16),
    ),
    "soul": Style(
        (84, 116),
        (MOTOWN, SIXTEENTHS),
        "syncopated",
        _PICKED,
        ("X...X...X...X...", "..X...X...X...X."),
        "seventh",
        0.4,
        guitar="clean",
        keys=(0, 4, 16),
        leads=(56, 65, 66, 57),
    ),
    "latin": Style(
        (92, 116),
        (LATIN, LATIN),
        "tumbao",
        (*_UPRIGHT, "33"),
        ("X..X..X.X.X..X..", "X.XX.XX.X.XX.XX."),
        "seventh",
        0.6,
        keys=(0,),
        leads=(56, 57, 73, 11),
        kits=("oramics lm-2", "oramics pearl-master-studio"),
    ),
    "blues": Style(
        (72, 112),
        (SHUFFLE, SHUFFLE),
        "walking",
        _PICKED,
        ("X.xX.xX.xX.x", "...X.....X.."),
        "seventh",
        0.2,
        guitar="crunch",
        leads=(22, 66, 27),
        beats=4,
    ),
    "waltz": Style(
        (96, 150),
        (WALTZ, WALTZ),
        "root fifth",
        _UPRIGHT,
        ("....X...X...", "arpeggio"),
        minor=0.4,
        guitar="acoustic",
        leads=(21, 40, 71, 73, 10),
        beats=3,
    ),
    "orchestral": Style(
        (70, 110),
        (WALTZ, WALTZ),
        "long",
        ("32", "43"),
        ("X...........", "arpeggio"),
        minor=0.5,
        keys=(0, 46, 6),
        leads=(40, 42, 60, 68, 70, 71, 73),
        vocals=0.5,
        beats=3,
        kits=(),
    ),
}
