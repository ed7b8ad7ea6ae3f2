"""Abbreviations with a point, which does not end a sentence."""

# A name or a word has to follow these.
_TITLES = """
mr mrs ms dr prof rev hon gen col capt lt sgt maj cmdr gov sen rep pres st messrs mme mlle mgr
hr fr frl dipl ing sr sra srta dña dn ud uds m me sig dott avv
"""
_BEFORE_A_WORD = """
ee ex e.g i.e eg ie cf vs viz approx ca incl excl esp resp
z.b d.h u.a o.ä z.t i.d.r bzw ggf evtl vgl inkl zzgl sog bspw
p.ex c.-à-d p.ej ej núm pág
u.s u.k e.u u.n
"""
# Before a number or a small letter these go on; else they end a sentence, as "art" and "no" do.
_BEFORE_A_NUMBER = """
no nos nr nrs fig figs eq eqs sec sect ch chap vol vols p pp pg art abb bd kap tab tel ext est ed eds par para
jan feb mar apr jun jul aug sep sept oct nov dec okt dez mon tue tues wed thu thur thurs fri sat sun
etc usw inc ltd co corp al jr bros dept univ ave blvd rd str min max temp avg mio mrd mill
a.m p.m ph.d b.c a.d m.a b.a b.sc m.sc
"""

NEVER_AT_END = frozenset(_TITLES.split()) | frozenset(_BEFORE_A_WORD.split())
SELDOM_AT_END = frozenset(_BEFORE_A_NUMBER.split())
# Languages that write an ordinal as a number with a point: "am 3. Mai".
ORDINAL_POINT = frozenset(
    ("de", "da", "nb", "no", "nn", "fi", "et", "lv", "cs", "sk", "pl", "hu", "hr", "sr", "bs", "sl", "is", "tr")
)
