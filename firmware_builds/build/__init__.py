"""Builds what tinyprof runs on: emulated boards, native modules, firmware for real boards.

Run as `python3 firmware_builds/build`, with the system's Python and its standard library alone. Each module may import
those before it: shell, apt, source, rp2, boards, then modules and families, then __main__.
"""
