"""Profile the model that lies on the board:  mpremote run device/examples/profile_llm.py"""

import tinyprof

tinyprof.profile(tinyprof.load(tinyprof.find_model()), p=(16,), n=(16,), d=(0,), r=3)
