# Frozen into firmware of our own: what the port freezes by itself, and the device package.
for own in ("boards/manifest.py", "variants/manifest.py", "modules/manifest.py"):
    try:
        include("$(PORT_DIR)/" + own)  # noqa: F821 (names that manifests are run with)
        break
    except Exception as error:
        if "not found in any known library" in str(error):  # the port's own modules are there, micropython-lib is not
            print("without micropython-lib:", error)
            break
        if not str(error).endswith(own + "'"):  # the port keeps it elsewhere, or has none; any other error is one
            raise
package("tinyprof", base_path="../device")  # noqa: F821
