"""
The AWS services whose clients a guard can be put on, as botocore names them.
"""

from __future__ import annotations

from typing import Final

RUNTIME: Final = "bedrock-runtime"
AGENT_RUNTIME: Final = "bedrock-agent-runtime"
CONTROL_PLANE: Final = "bedrock"
DATA_AUTOMATION: Final = "bedrock-data-automation-runtime"
AGENTCORE: Final = "bedrock-agentcore"

SERVICES: Final = (RUNTIME, AGENT_RUNTIME, CONTROL_PLANE, DATA_AUTOMATION, AGENTCORE)
