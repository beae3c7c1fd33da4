"""The studio's tabs, a file each, as Gradio components. No other package of Tercet imports Gradio.

Gradio reads environment variables when it is imported: tunnels, other addresses, other folders.
They are removed here, which runs before every module of this package.
"""

import os

for _name in [name for name in os.environ if name.startswith("GRADIO_")]:
    del os.environ[_name]
os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_DISABLE_TELEMETRY": "1"}
