"""
Operations that bill, and whose usage neither request nor reply tells.

They are refused, unless settings let them through uncounted (`on_unmetered`) or say what a call is charged
(`flat_prices`). What AWS's own pages leave open is among them: what is not known is not free.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from bedrock_guard.domain.call import Call, ModelRef, RequestSize
from bedrock_guard.domain.services import AGENT_RUNTIME, AGENTCORE, CONTROL_PLANE, DATA_AUTOMATION, RUNTIME
from bedrock_guard.operations.plain import Plain

_NO_SIZE: Final = RequestSize(generates=False)


@dataclass(frozen=True, slots=True)
class Unmeterable(Plain):
    """
    One of them; with a flat price it is metered after all, at that.

    Attributes:
        why: What it bills for; completes "InvokeBrowser of bedrock-agentcore …".
    """

    service: str = ""
    why: str = ""

    def read_call(
        self,
        params: Mapping[str, Any],  # noqa: ARG002 - nothing in them tells what it costs
        *,
        region: str,
        model: ModelRef | None = None,  # noqa: ARG002
    ) -> Call:
        """
        A call that is charged by its name.
        """
        key = f"{self.service}:{self.name}"
        return Call(
            self.name,
            ModelRef(key, "operation"),
            "none",
            region,
            _NO_SIZE,
            flat_key=key,
            has_bound=False,
            is_silent=True,
        )

    def read_wire(
        self,
        *,
        model_id: str,  # noqa: ARG002
        headers: Mapping[str, str],  # noqa: ARG002
        body: bytes,  # noqa: ARG002
    ) -> Mapping[str, Any]:
        """
        Nothing: no parameter matters.
        """
        return {}


_COMPUTE: Final = "bills for compute by the second"
_MEMORY: Final = "bills for memory that is written or looked up"
_JUDGED: Final = "bills for what models read and write as judges"
_TRAINED: Final = "starts a job that bills for training"
_STORED: Final = "stores a model, which bills by the month"
_HOSTED: Final = "makes a model ready, which bills by the hour"
_REASONED: Final = "starts a workflow whose price AWS does not state"

UNMETERABLE: Final[dict[str, dict[str, str]]] = {
    RUNTIME: {
        "InvokeModelWithBidirectionalStream": "bills for speech as it is spoken",
    },
    AGENT_RUNTIME: {
        "AgenticRetrieveStream": "bills for what models read and write as they search",
        "GenerateQuery": "bills for what a model writes",
        "OptimizePrompt": "bills for what a model writes",
        "StartFlowExecution": "starts a flow that bills for the models in it",
    },
    CONTROL_PLANE: {
        "CreateAdvancedPromptOptimizationJob": "starts a job that bills for what models write",
        "CreateCustomModel": _STORED,
        "CreateCustomModelDeployment": _HOSTED,
        "CreateEvaluationJob": "starts a job that bills for what models write and judge",
        "CreateFoundationModelAgreement": "accepts a maker's offer",
        "CreateMarketplaceModelEndpoint": _HOSTED,
        "CreateModelCopyJob": _STORED,
        "CreateModelCustomizationJob": _TRAINED,
        "CreateModelImportJob": _STORED,
        "CreateProvisionedModelThroughput": "buys throughput, which bills by the hour",
        "PutEnforcedGuardrailConfiguration": "makes a guardrail bill for every call of the account",
        "RegisterMarketplaceModelEndpoint": _HOSTED,
        "StartAutomatedReasoningPolicyBuildWorkflow": _REASONED,
        "StartAutomatedReasoningPolicyTestWorkflow": _REASONED,
        "UpdateCustomModelDeployment": _HOSTED,
        "UpdateMarketplaceModelEndpoint": _HOSTED,
        "UpdateProvisionedModelThroughput": "changes throughput, which bills by the hour",
    },
    DATA_AUTOMATION: {
        "InvokeDataAutomation": "bills by the page, image or minute",
        "InvokeDataAutomationAsync": "bills by the page, image or minute",
    },
    AGENTCORE: {
        "BatchCreateMemoryRecords": _MEMORY,
        "BatchUpdateMemoryRecords": _MEMORY,
        "CompleteResourceTokenAuth": "bills for tokens of identities",
        "CreateABTest": _JUDGED,
        "CreateEvent": _MEMORY,
        "CreatePaymentInstrument": "prepares payments",
        "CreatePaymentSession": "prepares payments",
        "Evaluate": _JUDGED,
        "GetMemoryRecord": _MEMORY,
        "GetResourceApiKey": "bills for tokens of identities",
        "GetResourceOauth2Token": "bills for tokens of identities",
        "GetResourcePaymentToken": "bills for tokens of identities",
        "GetWorkloadAccessToken": "bills for tokens of identities",
        "GetWorkloadAccessTokenForJWT": "bills for tokens of identities",
        "GetWorkloadAccessTokenForUserId": "bills for tokens of identities",
        "IngestData": _MEMORY,
        "InvokeAgentRuntime": _COMPUTE,
        "InvokeAgentRuntimeCommand": _COMPUTE,
        "InvokeBrowser": _COMPUTE,
        "InvokeCodeInterpreter": _COMPUTE,
        "InvokeHarness": "bills for compute, and for what models read and write",
        "InvokeWebSearch": "bills by the search",
        "ListMemoryRecords": _MEMORY,
        "ProcessPayment": "pays",
        "RetrieveMemoryRecords": _MEMORY,
        "SaveBrowserSessionProfile": _COMPUTE,
        "SearchRegistryRecords": "bills by the search",
        "StartBatchEvaluation": _JUDGED,
        "StartBrowserSession": _COMPUTE,
        "StartCodeInterpreterSession": _COMPUTE,
        "StartDatasetGeneration": "starts a job that bills for what models write",
        "StartMemoryExtractionJob": _MEMORY,
        "StartRecommendation": "starts a job that bills for what models write",
        "UpdateABTest": _JUDGED,
        "UpdateAgentInsight": _JUDGED,
        "UpdateBrowserStream": _COMPUTE,
    },
}
"""What each bills for, by service and name as botocore spells them."""


def unknown(service: str, name: str) -> Unmeterable:
    """
    An operation that is in no table: botocore's release is newer.
    """
    return Unmeterable(name, service=service, why="is not known to this version of bedrock_guard")
