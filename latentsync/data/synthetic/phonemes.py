"""What the synthetic voice can say: an inventory of sounds, and words spelled in them.

Sounds carry ARPAbet names. Vowel formants are the means of Peterson & Barney (1952), consonant loci and noise
bands are the textbook values of Klatt (1980), rounded; the shapes of the mouth are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

SILENCE = "SIL"


@dataclass(frozen=True)
class Mouth:
    """Visible target of one sound; see `Articulation` for the meaning of each number."""

    opening: float  # 0 lips closed .. 1 wide open
    width: float = 0.0  # -1 narrow .. 1 spread
    rounding: float = 0.0  # 0 .. 1
    teeth: float = 0.0  # 0 rows apart with the jaw .. 1 rows meet
    tongue: float = 0.0  # 0 lies low .. 1 tip at the upper teeth
    pull: float = 1.0  # how strongly it asserts itself against its neighbours


@dataclass(frozen=True)
class Sound:
    """One phoneme: acoustic target, mouth target, and how its time is divided between the sources of sound."""

    formants: tuple[float, float, float]  # Hz, at its start
    seconds: float  # usual duration
    mouth: Mouth
    sources: tuple[tuple[float, float, float, float], ...]  # (share of duration, voicing, aspiration, frication)
    noise_band: tuple[float, float] = (4000.0, 2000.0)  # Hz, centre and bandwidth of its frication
    nasal: bool = False
    vowel: bool = False
    glide: tuple[tuple[float, float, float], Mouth] | None = None  # formants and mouth at its end, for diphthongs


_VOICED = ((1.0, 1.0, 0.0, 0.0),)
_NASAL = ((1.0, 0.5, 0.0, 0.0),)
_LIQUID = ((1.0, 0.65, 0.0, 0.0),)


_Formants = tuple[float, float, float]
_Band = tuple[float, float]


def _vowel(formants: _Formants, seconds: float, mouth: Mouth, glide: tuple[_Formants, Mouth] | None = None) -> Sound:
    return Sound(formants, seconds, mouth, _VOICED, vowel=True, glide=glide)


def _stop(formants: _Formants, mouth: Mouth, band: _Band, *, voiced: bool, burst: float) -> Sound:
    if voiced:
        return Sound(formants, 0.075, mouth, ((0.8, 0.12, 0.0, 0.0), (0.2, 0.5, 0.0, burst)), band)
    return Sound(formants, 0.11, mouth, ((0.55, 0.0, 0.0, 0.0), (0.1, 0.0, 0.2, burst), (0.35, 0.0, 0.35, 0.0)), band)


def _fricative(formants: _Formants, seconds: float, mouth: Mouth, band: _Band, *, voiced: bool, level: float) -> Sound:
    source = (1.0, 0.4, 0.05, level * 0.6) if voiced else (1.0, 0.0, 0.05, level)
    return Sound(formants, seconds, mouth, (source,), band)


def _affricate(mouth: Mouth, *, voiced: bool) -> Sound:
    voice = 0.35 if voiced else 0.0
    sources = ((0.4, voice * 0.3, 0.0, 0.0), (0.6, voice, 0.05, 0.4 if not voiced else 0.28))
    return Sound((270, 1850, 2500), 0.12, mouth, sources, (3200, 1300))


_LIPS_SHUT = Mouth(0.0, pull=2.0)
_TIP_UP = Mouth(0.26, 0.15, 0.0, 0.5, 0.75, 0.55)
_BACK = Mouth(0.34, 0.1, 0.0, 0.1, 0.15, 0.35)
_LIP_TO_TEETH = Mouth(0.11, 0.1, 0.0, 0.35, 0.0, 1.6)
_BETWEEN_TEETH = Mouth(0.28, 0.15, 0.0, 0.25, 1.0, 1.0)
_HISS = Mouth(0.22, 0.35, 0.0, 1.0, 0.1, 1.0)
_HUSH = Mouth(0.26, -0.3, 0.55, 0.95, 0.1, 1.2)
_OPEN_A, _SPREAD_I = Mouth(1.0, 0.1, 0.0), Mouth(0.28, 0.9, 0.0, 0.35)
_ROUND_U, _ROUND_O = Mouth(0.2, -0.4, 1.0, 0.0, 0.0, 1.3), Mouth(0.7, -0.2, 0.6)

SOUNDS: dict[str, Sound] = {
    SILENCE: Sound((500, 1500, 2500), 0.2, Mouth(0.0, pull=0.8), ((1.0, 0.0, 0.0, 0.0),)),
    "AA": _vowel((730, 1090, 2440), 0.15, _OPEN_A),
    "AE": _vowel((660, 1720, 2410), 0.14, Mouth(0.86, 0.5)),
    "AH": _vowel((640, 1190, 2390), 0.10, Mouth(0.6, 0.05)),
    "AX": _vowel((500, 1450, 2450), 0.06, Mouth(0.36, pull=0.5)),
    "AO": _vowel((570, 840, 2410), 0.15, _ROUND_O),
    "EH": _vowel((530, 1840, 2480), 0.11, Mouth(0.62, 0.4)),
    "ER": _vowel((490, 1350, 1690), 0.13, Mouth(0.36, -0.1, 0.4)),
    "IH": _vowel((390, 1990, 2550), 0.09, Mouth(0.4, 0.4)),
    "IY": _vowel((270, 2290, 3010), 0.13, _SPREAD_I),
    "UH": _vowel((440, 1020, 2240), 0.09, Mouth(0.36, -0.2, 0.6)),
    "UW": _vowel((300, 870, 2240), 0.14, _ROUND_U),
    "EY": _vowel((530, 1840, 2480), 0.15, Mouth(0.6, 0.4), ((300, 2250, 2950), _SPREAD_I)),
    "AY": _vowel((730, 1150, 2440), 0.17, _OPEN_A, ((330, 2150, 2800), _SPREAD_I)),
    "AW": _vowel((730, 1200, 2440), 0.18, _OPEN_A, ((350, 900, 2250), _ROUND_U)),
    "OW": _vowel((540, 950, 2400), 0.15, _ROUND_O, ((350, 850, 2250), _ROUND_U)),
    "OY": _vowel((570, 840, 2410), 0.18, _ROUND_O, ((330, 2150, 2800), _SPREAD_I)),
    "M": Sound((270, 1000, 2200), 0.08, _LIPS_SHUT, _NASAL, nasal=True),
    "N": Sound((270, 1700, 2600), 0.07, _TIP_UP, _NASAL, nasal=True),
    "NG": Sound((270, 2200, 2700), 0.08, _BACK, _NASAL, nasal=True),
    "P": _stop((220, 900, 2200), _LIPS_SHUT, (1000, 1200), voiced=False, burst=0.35),
    "B": _stop((220, 900, 2200), _LIPS_SHUT, (900, 1000), voiced=True, burst=0.25),
    "T": _stop((220, 1750, 2650), _TIP_UP, (4200, 2200), voiced=False, burst=0.5),
    "D": _stop((220, 1750, 2650), _TIP_UP, (3900, 2000), voiced=True, burst=0.35),
    "K": _stop((220, 2000, 2350), _BACK, (2000, 700), voiced=False, burst=0.5),
    "G": _stop((220, 2000, 2350), _BACK, (1900, 700), voiced=True, burst=0.35),
    "F": _fricative((250, 1100, 2100), 0.10, _LIP_TO_TEETH, (6000, 5000), voiced=False, level=0.13),
    "V": _fricative((250, 1100, 2100), 0.07, _LIP_TO_TEETH, (6000, 5000), voiced=True, level=0.1),
    "TH": _fricative((300, 1400, 2500), 0.09, _BETWEEN_TEETH, (6200, 4000), voiced=False, level=0.1),
    "DH": _fricative((300, 1400, 2500), 0.05, _BETWEEN_TEETH, (6200, 4000), voiced=True, level=0.07),
    "S": _fricative((300, 1750, 2600), 0.11, _HISS, (5900, 1800), voiced=False, level=0.34),
    "Z": _fricative((300, 1750, 2600), 0.08, _HISS, (5800, 1800), voiced=True, level=0.3),
    "SH": _fricative((300, 1850, 2500), 0.12, _HUSH, (3100, 1300), voiced=False, level=0.4),
    "CH": _affricate(_HUSH, voiced=False),
    "JH": _affricate(_HUSH, voiced=True),
    "HH": Sound((500, 1500, 2500), 0.06, Mouth(0.45, pull=0.15), ((1.0, 0.05, 0.5, 0.0),)),
    "L": Sound((360, 1100, 2700), 0.07, Mouth(0.42, 0.1, 0.0, 0.0, 0.85, 0.6), _LIQUID),
    "R": Sound((330, 1150, 1600), 0.07, Mouth(0.3, -0.2, 0.55, pull=0.9), _LIQUID),
    "W": Sound((300, 650, 2200), 0.07, Mouth(0.14, -0.5, 1.0, pull=1.8), _LIQUID),
    "Y": Sound((270, 2250, 3000), 0.06, Mouth(0.26, 0.7), _LIQUID),
}
BILABIALS = frozenset("PBM")

_SPELLED = """
a:AX the:DH-AX and:AE-N-D of:AH-V to:T-UW in:IH-N we:W-IY you:Y-UW they:DH-EY he:HH-IY she:SH-IY my:M-AY our:AW-ER
was:W-AH-Z is:IH-Z are:AA-R will:W-IH-L can:K-AE-N may:M-EY should:SH-UH-D must:M-AH-S-T not:N-AA-T for:F-AO-R
apple:AE-P-AX-L paper:P-EY-P-ER piano:P-IY-AE-N-OW people:P-IY-P-AX-L picture:P-IH-K-CH-ER pepper:P-EH-P-ER
baby:B-EY-B-IY bottle:B-AA-T-AX-L bubble:B-AH-B-AX-L book:B-UH-K bird:B-ER-D boat:B-OW-T brown:B-R-AW-N
mother:M-AH-DH-ER morning:M-AO-R-N-IH-NG mirror:M-IH-R-ER moon:M-UW-N music:M-Y-UW-Z-IH-K map:M-AE-P mouth:M-AW-TH
father:F-AA-DH-ER flower:F-L-AW-ER fish:F-IH-SH five:F-AY-V feather:F-EH-DH-ER forest:F-AO-R-IH-S-T
village:V-IH-L-IH-JH voice:V-OY-S violet:V-AY-AX-L-IH-T very:V-EH-R-IY over:OW-V-ER river:R-IH-V-ER
thing:TH-IH-NG think:TH-IH-NG-K three:TH-R-IY weather:W-EH-DH-ER together:T-AX-G-EH-DH-ER other:AH-DH-ER
sister:S-IH-S-T-ER summer:S-AH-M-ER sea:S-IY silver:S-IH-L-V-ER seven:S-EH-V-AX-N sunny:S-AH-N-IY story:S-T-AO-R-IY
zebra:Z-IY-B-R-AX zoo:Z-UW busy:B-IH-Z-IY easy:IY-Z-IY shadow:SH-AE-D-OW shoe:SH-UW ship:SH-IH-P ocean:OW-SH-AX-N
chair:CH-EH-R child:CH-AY-L-D watch:W-AA-CH teacher:T-IY-CH-ER jacket:JH-AE-K-IH-T orange:AO-R-IH-N-JH joy:JH-OY
house:HH-AW-S happy:HH-AE-P-IY hello:HH-EH-L-OW heavy:HH-EH-V-IY hammer:HH-AE-M-ER horse:HH-AO-R-S
window:W-IH-N-D-OW water:W-AO-T-ER winter:W-IH-N-T-ER woman:W-UH-M-AX-N away:AX-W-EY wonder:W-AH-N-D-ER
yellow:Y-EH-L-OW young:Y-AH-NG year:Y-IH-R yesterday:Y-EH-S-T-ER-D-EY table:T-EY-B-AX-L tall:T-AO-L time:T-AY-M
doctor:D-AA-K-T-ER door:D-AO-R dinner:D-IH-N-ER dark:D-AA-R-K day:D-EY kitchen:K-IH-CH-AX-N cloud:K-L-AW-D
color:K-AH-L-ER cake:K-EY-K garden:G-AA-R-D-AX-N green:G-R-IY-N go:G-OW good:G-UH-D game:G-EY-M
night:N-AY-T number:N-AH-M-B-ER never:N-EH-V-ER new:N-UW song:S-AO-NG long:L-AO-NG little:L-IH-T-AX-L
letter:L-EH-T-ER light:L-AY-T lemon:L-EH-M-AX-N road:R-OW-D red:R-EH-D rabbit:R-AE-B-IH-T round:R-AW-N-D
open:OW-P-AX-N always:AO-L-W-EY-Z under:AH-N-D-ER evening:IY-V-N-IH-NG early:ER-L-IY eye:AY island:AY-L-AX-N-D
arm:AA-R-M animal:AE-N-IH-M-AX-L answer:AE-N-S-ER umbrella:AH-M-B-R-EH-L-AX about:AX-B-AW-T enough:IH-N-AH-F
said:S-EH-D saw:S-AO made:M-EY-D move:M-UW-V moves:M-UW-V-Z bring:B-R-IH-NG brings:B-R-IH-NG-Z take:T-EY-K
takes:T-EY-K-S opens:OW-P-AX-N-Z follow:F-AA-L-OW follows:F-AA-L-OW-Z find:F-AY-N-D finds:F-AY-N-D-Z keep:K-IY-P
remember:R-AX-M-EH-M-B-ER believe:B-AX-L-IY-V hope:HH-OW-P love:L-AH-V loves:L-AH-V-Z paint:P-EY-N-T
play:P-L-EY walk:W-AO-K walks:W-AO-K-S jump:JH-AH-M-P show:SH-OW choose:CH-UW-Z visit:V-IH-Z-IH-T
big:B-IH-G small:S-M-AO-L blue:B-L-UW warm:W-AO-R-M cold:K-OW-L-D old:OW-L-D soft:S-AO-F-T quiet:K-W-AY-AX-T
calm:K-AA-M brave:B-R-EY-V empty:EH-M-P-T-IY simple:S-IH-M-P-AX-L beautiful:B-Y-UW-T-AX-F-AX-L white:W-AY-T
"""


def _spelled(entries: str) -> dict[str, tuple[str, ...]]:
    return {word: tuple(spelling.split("-")) for word, spelling in (entry.split(":") for entry in entries.split())}


LEXICON: dict[str, tuple[str, ...]] = _spelled(_SPELLED)
FUNCTION_WORDS = frozenset(_spelled("\n".join(_SPELLED.splitlines()[1:3])))  # never stressed
