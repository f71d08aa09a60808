"""The command line of boards.py: `python3 firmware_builds/build`."""

from boards import main

main()
