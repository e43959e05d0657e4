"""What `gato-record --help` says of each recorder."""

from typing import NamedTuple

EXAMPLES = """examples:
  gato-record babyai --output raw --levels BabyAI-GoToLocal-v0 --episodes 100
  gato-record metaworld --output raw --tasks assembly-v3,reach-v3 --episodes 50
  gato-record dm_control --output raw --tasks cartpole-swingup --episodes 50
  gato-record sokoban --output raw --rooms 7x7 --episodes 100
  gato-record sokoban --output raw --rooms all --runner DirectRunner
  gato-record ale --output raw --games Breakout --episodes 50
  gato-record procgen --output raw --games maze --episodes 50
  gato-record robotics --output raw --tasks FetchPush-v4 --episodes 50
  gato-record morphologies --output raw --bodies cheetah-3-3 --episodes 50
  gato-record captions --output raw/captions --scenes 1000
  gato-record questions --output raw/questions --scenes 1000
  gato-record text --output raw/text

The same command writes the same data; one that was stopped goes on where it was.
`gato-record babyai --help` has that recorder's options."""

_BABYAI = """Plays BabyAI levels and writes a Minari data set for each level and policy:
DIR/babyai/<level>/<policy>-v0. The expert is minigrid's bot; the noisy policy is the
bot with a fraction of random actions. The means of the level's expert and random
returns are stored with each data set (ref_max_score, ref_min_score)."""

_BABYAI_EXAMPLES = """examples:
  gato-record babyai --output raw --levels BabyAI-GoToLocal-v0,BabyAI-PickupLoc-v0
  gato-record babyai --output raw --levels BabyAI-GoToObj-v0 --policies expert \\
      --episodes 10000 --workers 8
  gato-record babyai --output raw --levels BabyAI-BossLevel-v0 --noise 0.05,0.1,0.2
  gato-record babyai --output pictures --levels BabyAI-GoToObj-v0 --tile 8
  gato-record babyai --output raw --levels BabyAI-GoToObj-v0 --episodes 10000 \\
      --runner DirectRunner --direct_num_workers 8

A build reads them with format minari and paths such as raw/babyai/*/*-v0."""

_METAWORLD = """Plays Meta-World tasks and writes a Minari data set for each task and
policy: DIR/metaworld/<task>/<policy>-v0. The expert is the task's scripted policy; the
noisy policy adds normal noise to its actions. Actions are stored clipped to [-1, 1],
as they were done. Observations are the 39 numbers with the goal. Objects and goal lie
elsewhere in each episode. Episodes go on after success, which is stored for each step.
The means of the task's expert and random returns are stored with each data set
(ref_max_score, ref_min_score)."""

_METAWORLD_EXAMPLES = """examples:
  gato-record metaworld --output raw --tasks assembly-v3,reach-v3 --episodes 50
  gato-record metaworld --output raw --tasks all --policies expert --workers 8
  gato-record metaworld --output raw --tasks push-v3 --max_steps 150 --noise 0.1,0.5
  gato-record metaworld --output gs://b/raw --tasks all --runner DataflowRunner \\
      --project my-project --region us-central1 --temp_location gs://b/tmp \\
      --sdk_container_image IMAGE --sdk_location container

A build reads them with format minari and paths such as raw/metaworld/*/*-v0."""

_DM_CONTROL = """Plays tasks of the DM Control suite and writes a Minari data set for
each task and policy: DIR/dm_control/<task>/<policy>-v0, or with --pixels
DIR/dm_control_pixels/<task>/<policy>-v0. Experts are controllers written by hand: of
cartpole, point_mass-easy and reacher, and, of 30 to 75 steps a second, planners for
cheetah and walker. Other tasks are played with --policies random only. The noisy policy
adds normal noise to the expert's actions. Actions are stored clipped to [-1, 1], as
they were done. The means of the task's expert and random returns are stored with each
data set (ref_max_score, ref_min_score).

With --bodies, DIR/dm_control_random_small/<task>/<policy>-v0 or ..._large/...: gear of
actuators, range, stiffness and damping of joints, size and density of geoms are scaled
in each episode, each by a number of its own: small by 0.9 to 0.95 or 1.05 to 1.1, large
by 0.6 to 0.8 or 1.2 to 1.4. The episode's seed, which is stored, decides them.

With --goals, DIR/dm_control_goals/<task>/<policy>-v0: point_mass-reach_top_left,
..._top_right, ..._bottom_left and ..._bottom_right, where the target is in a corner and
not observed, so that without a prompt nothing tells one task from another."""

_DM_CONTROL_EXAMPLES = """examples:
  gato-record dm_control --output raw --tasks cartpole-swingup,reacher-hard
  gato-record dm_control --output raw --tasks all --episodes 10 --workers 8
  gato-record dm_control --output raw --tasks hopper-hop --policies random
  gato-record dm_control --output raw --tasks cartpole-balance --pixels 64
  gato-record dm_control --output raw --tasks all --bodies large --workers 8
  gato-record dm_control --output raw --tasks all --goals --max_steps 75

Frames are drawn by what MUJOCO_GL names: egl or osmesa. A build reads them with format
minari and paths such as raw/dm_control/*/*-v0."""

_SOKOBAN = """Plays Sokoban in rooms that are made here, and writes a Minari data set
for each size and policy: DIR/sokoban/<size>/<policy>-v0, or with --grid
DIR/sokoban_grid/<size>/<policy>-v0. The expert is a search; the noisy policy is the
search with a fraction of random actions, planned anew after each. A room that no plan
of 120 actions was found for is left out of expert and noisy episodes, and counted. The
means of the size's expert and random returns are stored with each data set
(ref_max_score, ref_min_score)."""

_SOKOBAN_EXAMPLES = """examples:
  gato-record sokoban --output raw --rooms 7x7,10x10 --episodes 1000 --workers 8
  gato-record sokoban --output raw --rooms 10x10 --grid

Pictures take 38 to 77 kB a step, as Minari stores them, and grids 0.4 to 0.8. A build
reads them with format minari and paths such as raw/sokoban/*/*-v0."""

_ALE = """Plays Atari games of ale-py and writes a Minari data set for each game and
policy: DIR/atari/<game>/<policy>-v0, or with --rgb DIR/atari_rgb/<game>/<policy>-v0.
Experts are written by hand for a few games, and six have a search on saved states, of
47 to 84 steps a second: there give --max_steps, as they play for long. Other games are
played with --policies random only. The noisy policy is the expert with a fraction of
random actions. A step is four frames. The means of the game's expert and random returns
are stored with each data set (ref_max_score, ref_min_score), so that random play of a
game with an expert has up to 200 episodes of it played, too.

With --modes random, DIR/ale_extended/<game>/<policy>-v0 or ale_extended_rgb: each
episode is played in a mode and a difficulty that its seed draws from all that the game
has; Minari gives them with the episode's seed, as its options."""

_ALE_EXAMPLES = """examples:
  gato-record ale --output raw --games Breakout,Freeway --episodes 50 --workers 8
  gato-record ale --output raw --games atari --policies random --episodes 10
  gato-record ale --output raw --games extended --modes random --max_steps 1000
  gato-record ale --output raw --games all --max_steps 3000 --workers 8
  gato-record ale --output raw --games Pong --policies random --rgb

A build reads them with format minari and paths such as raw/atari/*/*-v0."""

_PROCGEN = """Plays Procgen games and writes a Minari data set for each game and policy:
DIR/procgen/<game>/<policy>-v0, or with --hard DIR/procgen_hard/<game>/<policy>-v0. The
expert is a search on saved states, for 10 of the 16 games; others are played with
--policies random only. The noisy policy is the search with a fraction of random
actions, planned anew after each. Each episode has a level of its own; one that no plan
was found for is left out of expert episodes, and counted. Of an episode's last frame,
which Procgen does not draw, the one before stands in its place. The means of the game's
expert and random returns are stored with each data set (ref_max_score,
ref_min_score).

Procgen needs NumPy 1, so an interpreter of its own."""

_PROCGEN_EXAMPLES = """examples:
  python3.11 -m venv procgen
  procgen/bin/pip install "procgen-mirror==0.10.7" "numpy<2"
  gato-record procgen --output raw --games maze,coinrun --python procgen/bin/python
  export GATO_PROCGEN_PYTHON=procgen/bin/python
  gato-record procgen --output raw --games all --episodes 1000 --workers 8
  gato-record procgen --output raw --games bigfish --policies random --hard

Each worker takes 0.5 GB. A build reads them with format minari and paths such as
raw/procgen/*/*-v0."""

_ROBOTICS = """Plays the Fetch arm's tasks of Gymnasium-Robotics, which is installed
apart, and writes a Minari data set for each task and policy:
DIR/robotics/<task>/<policy>-v0. They stand in for the paper's DM Manipulation
Playground, and more weakly for RGB Stacking and Playroom. Experts are scripts, of
reaching, pushing and picking up; sliding is played with --policies random only. The
noisy policy adds normal noise to the script's actions. Actions are stored clipped to
[-1, 1], as they were done. Episodes go on after success, which is stored for each step.
The means of the task's expert and random returns are stored with each data set
(ref_max_score, ref_min_score)."""

_ROBOTICS_EXAMPLES = """examples:
  pip install gymnasium-robotics==1.4.2
  gato-record robotics --output raw --tasks FetchPush-v4,FetchPickAndPlace-v4
  gato-record robotics --output raw --tasks all --episodes 1000 --workers 8
  gato-record robotics --output raw --tasks FetchSlide-v4 --policies random

A build reads them with format minari, paths such as raw/robotics/*/*-v0 and
filter: {by: success}."""

_MORPHOLOGIES = """Plays bodies with 2 to 7 limbs, made here by a few rules, that are to
run forward, and writes a Minari data set for each body and policy:
DIR/morphologies/<body>/<policy>-v0. They stand in for those of Modular RL, with its
reward. Bodies are cheetah-B-F, of B limbs in a back leg and F in a front leg;
walker-R-L, likewise right and left; hopper-N and worm-N, of N limbs. The expert is a
planner, of 50 to 190 steps a second; the noisy policy adds normal noise to its actions.
Actions are stored clipped to [-1, 1], as they were done. Episodes of walkers and
hoppers end when they fall. The means of the body's expert and random returns are stored
with each data set (ref_max_score, ref_min_score)."""

_MORPHOLOGIES_EXAMPLES = """examples:
  gato-record morphologies --output raw --bodies cheetah-3-3,hopper-4,worm-5
  gato-record morphologies --output raw --bodies all --episodes 20 --workers 8
  gato-record morphologies --output raw --bodies worm-2,worm-3 --max_steps 200

A build reads them with format minari and paths such as raw/morphologies/*/*-v0."""

_CAPTIONS = """Draws rooms of a grid world, each with a caption that is true of it, and
writes webdataset tars with NUMBER.png, NUMBER.txt and NUMBER.json for each."""

_CAPTIONS_EXAMPLES = """examples:
  gato-record captions --output raw/captions --scenes 1000
  gato-record captions --output raw/captions --scenes 100000 --scenes_per_tar 10000 \\
      --seed 1 --workers 8

A build reads them with format webdataset and the path raw/captions/*.tar."""

_QUESTIONS = """Draws rooms of a grid world and asks about each: what there is, how
many, of which colour, where, and whether it is so. Answers follow from the room. Writes
the files of VQAv2:
  DIR/v2_OpenEnded_mscoco_<data_subtype>_questions.json
  DIR/v2_mscoco_<data_subtype>_annotations.json
  DIR/images/COCO_<data_subtype>_<12 digits>.jpg"""

_QUESTIONS_EXAMPLES = """examples:
  gato-record questions --output raw/questions --scenes 1000
  gato-record questions --output raw/questions --scenes 50000 --questions 8 --workers 8
  gato-record questions --output raw/questions --data_subtype val2014

A build reads them with format vqa and the path raw/questions/*_questions.json."""

_TEXT = """Writes the English that comes with Python: the language reference of its
help(), the docstrings of its standard library, and its licence; a .jsonl line with
"text" for each document. The same release of Python gives the same text."""

_TEXT_EXAMPLES = """example:
  gato-record text --output raw/text

A build reads it with format text and paths raw/text/*.jsonl and raw/text/*.txt."""


class Command(NamedTuple):
    """A command: a line among others, and what stands before and after its options."""

    summary: str
    description: str
    examples: str


COMMANDS = {
    "babyai": Command(
        "episodes of BabyAI levels as Minari data sets",
        _BABYAI,
        _BABYAI_EXAMPLES,
    ),
    "metaworld": Command(
        "episodes of Meta-World tasks as Minari data sets",
        _METAWORLD,
        _METAWORLD_EXAMPLES,
    ),
    "dm_control": Command(
        "episodes of DM Control tasks as Minari data sets",
        _DM_CONTROL,
        _DM_CONTROL_EXAMPLES,
    ),
    "sokoban": Command(
        "episodes of Sokoban as Minari data sets",
        _SOKOBAN,
        _SOKOBAN_EXAMPLES,
    ),
    "ale": Command(
        "episodes of Atari games as Minari data sets",
        _ALE,
        _ALE_EXAMPLES,
    ),
    "procgen": Command(
        "episodes of Procgen games as Minari data sets",
        _PROCGEN,
        _PROCGEN_EXAMPLES,
    ),
    "robotics": Command(
        "episodes of a Fetch arm's tasks as Minari data sets",
        _ROBOTICS,
        _ROBOTICS_EXAMPLES,
    ),
    "morphologies": Command(
        "episodes of bodies that run as Minari data sets",
        _MORPHOLOGIES,
        _MORPHOLOGIES_EXAMPLES,
    ),
    "captions": Command(
        "rendered grid scenes with true captions as webdataset tars",
        _CAPTIONS,
        _CAPTIONS_EXAMPLES,
    ),
    "questions": Command(
        "rendered grid scenes with questions and true answers as VQAv2's files",
        _QUESTIONS,
        _QUESTIONS_EXAMPLES,
    ),
    "text": Command(
        "the English that comes with Python, as .jsonl",
        _TEXT,
        _TEXT_EXAMPLES,
    ),
}
