"""The largest numbers that commands accept as options.

They lie far beyond use and catch slips of the hand: without them a number of twenty digits would
end in an overflow of some library, or in the attempt to reserve that much memory.
"""

from vgg_deploy.machine import available_cores

MOST_SIDE = 8192  # of crops, S and Q, pixels
MOST_BATCH = 65_536  # images per call
MOST_CLASSES = 1_000_000
MOST_IMAGES = 1_000_000_000  # of a data set
MOST_THREADS = max(64, 8 * available_cores())
LARGEST_CHANNEL_VALUE = 1e6  # of a mean or a standard deviation, either sign
