"""Two lists of games that stand for the paper's, which could not be looked up here.

Of ALE Atari it was known that the paper has 51 games, 23 of them by name (all are
below) and that Boxing is held out. Here they are the 49 of Mnih et al. 2015 and the
first two, by name, of the eight that later lists add.

Of ALE Atari Extended it was known that it has 28, and that mode and difficulty are
drawn for each episode. Here they are those of ale-py's games that are in none of the
lists of 57 and have the most settings of both, by name where these are equal.
"""

from collections.abc import Mapping

CANONICAL = (
    "Alien",
    "Amidar",
    "Assault",
    "Asterix",
    "Asteroids",
    "Atlantis",
    "BankHeist",
    "BattleZone",
    "BeamRider",
    "Berzerk",
    "Bowling",
    "Boxing",
    "Breakout",
    "Centipede",
    "ChopperCommand",
    "CrazyClimber",
    "Defender",
    "DemonAttack",
    "DoubleDunk",
    "Enduro",
    "FishingDerby",
    "Freeway",
    "Frostbite",
    "Gopher",
    "Gravitar",
    "Hero",
    "IceHockey",
    "Jamesbond",
    "Kangaroo",
    "Krull",
    "KungFuMaster",
    "MontezumaRevenge",
    "MsPacman",
    "NameThisGame",
    "Pong",
    "PrivateEye",
    "Qbert",
    "Riverraid",
    "RoadRunner",
    "Robotank",
    "Seaquest",
    "SpaceInvaders",
    "StarGunner",
    "Tennis",
    "TimePilot",
    "Tutankham",
    "UpNDown",
    "Venture",
    "VideoPinball",
    "WizardOfWor",
    "Zaxxon",
)

EXTENDED = (
    "Adventure",
    "AirRaid",
    "BasicMath",
    "Blackjack",
    "Casino",
    "Crossbow",
    "Et",
    "FlagCapture",
    "Frogger",
    "Galaxian",
    "Hangman",
    "HauntedHouse",
    "HumanCannonball",
    "KingKong",
    "LostLuggage",
    "MarioBros",
    "MrDo",
    "Othello",
    "Pacman",
    "Pooyan",
    "SpaceWar",
    "Superman",
    "TicTacToe3D",
    "Turmoil",
    "VideoCheckers",
    "VideoChess",
    "VideoCube",
    "WordZapper",
)

GROUPS: Mapping[str, tuple[str, ...]] = {"atari": CANONICAL, "extended": EXTENDED}
