"""
Operations that AWS does not charge for: they pass through, unreserved and unrecorded.

They read, list, tag, stop and delete, or write down what costs nothing until a billed operation uses
it. Each is named: a new one whose name begins with `Get` may bill all the same.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from bedrock_guard.domain.services import (
    AGENT_RUNTIME,
    AGENTCORE,
    CONTROL_PLANE,
    DATA_AUTOMATION,
    RUNTIME,
)


@dataclass(frozen=True, slots=True)
class Free:
    """
    An operation without a price. CountTokens is free by AWS's own page on counting tokens.
    """

    name: str


FREE: Final[dict[str, str]] = {
    RUNTIME: """
        CountTokens GetAsyncInvoke ListAsyncInvokes
    """,
    # Sessions hold what their callers put there; AWS charges for the models that answer in them.
    AGENT_RUNTIME: """
        CheckIngestedDocumentAcl CreateInvocation CreateSession DeleteAgentMemory DeleteSession EndSession
        GetAgentMemory GetDocumentContent GetExecutionFlowSnapshot GetFlowExecution GetIngestedDocumentAcl
        GetInvocationStep GetSession ListFlowExecutionEvents ListFlowExecutions ListInvocationSteps
        ListInvocations ListSessions ListTagsForResource PutInvocationStep StopFlowExecution TagResource
        UntagResource UpdateSession
    """,
    CONTROL_PLANE: """
        BatchDeleteAdvancedPromptOptimizationJob BatchDeleteEvaluationJob
        CancelAutomatedReasoningPolicyBuildWorkflow CreateAutomatedReasoningPolicy
        CreateAutomatedReasoningPolicyTestCase CreateAutomatedReasoningPolicyVersion CreateGuardrail
        CreateGuardrailVersion CreateInferenceProfile CreatePromptRouter DeleteAutomatedReasoningPolicy
        DeleteAutomatedReasoningPolicyBuildWorkflow DeleteAutomatedReasoningPolicyTestCase DeleteCustomModel
        DeleteCustomModelDeployment DeleteEnforcedGuardrailConfiguration DeleteFoundationModelAgreement
        DeleteGuardrail DeleteImportedModel DeleteInferenceProfile DeleteMarketplaceModelEndpoint
        DeleteModelInvocationLoggingConfiguration DeletePromptRouter DeleteProvisionedModelThroughput
        DeleteResourcePolicy DeregisterMarketplaceModelEndpoint ExportAutomatedReasoningPolicyVersion
        GetAccountDataRetention GetAdvancedPromptOptimizationJob GetAutomatedReasoningPolicy
        GetAutomatedReasoningPolicyAnnotations GetAutomatedReasoningPolicyBuildWorkflow
        GetAutomatedReasoningPolicyBuildWorkflowResultAssets GetAutomatedReasoningPolicyNextScenario
        GetAutomatedReasoningPolicyTestCase GetAutomatedReasoningPolicyTestResult GetCustomModel
        GetCustomModelDeployment GetEvaluationJob GetFoundationModel GetFoundationModelAvailability
        GetGuardrail GetImportedModel GetInferenceProfile GetMarketplaceModelEndpoint GetModelCopyJob
        GetModelCustomizationJob GetModelImportJob GetModelInvocationJob
        GetModelInvocationLoggingConfiguration GetPromptRouter GetProvisionedModelThroughput
        GetResourcePolicy GetUseCaseForModelAccess ListAdvancedPromptOptimizationJobs
        ListAutomatedReasoningPolicies ListAutomatedReasoningPolicyBuildWorkflows
        ListAutomatedReasoningPolicyTestCases ListAutomatedReasoningPolicyTestResults
        ListCustomModelDeployments ListCustomModels ListEnforcedGuardrailsConfiguration ListEvaluationJobs
        ListFoundationModelAgreementOffers ListFoundationModels ListGuardrails ListImportedModels
        ListInferenceProfiles ListMarketplaceModelEndpoints ListModelCopyJobs ListModelCustomizationJobs
        ListModelImportJobs ListModelInvocationJobs ListPromptRouters ListProvisionedModelThroughputs
        ListTagsForResource PutAccountDataRetention PutModelInvocationLoggingConfiguration PutResourcePolicy
        PutUseCaseForModelAccess StopAdvancedPromptOptimizationJob StopEvaluationJob
        StopModelCustomizationJob StopModelInvocationJob TagResource UntagResource
        UpdateAutomatedReasoningPolicy UpdateAutomatedReasoningPolicyAnnotations
        UpdateAutomatedReasoningPolicyTestCase UpdateGuardrail
    """,
    DATA_AUTOMATION: """
        GetDataAutomationStatus ListTagsForResource TagResource UntagResource
    """,
    AGENTCORE: """
        BatchDeleteMemoryRecords DeleteABTest DeleteBatchEvaluation DeleteCapacityProviderSession
        DeleteDatasetGeneration DeleteEvent DeleteMemoryRecord DeletePaymentInstrument DeletePaymentSession
        DeleteRecommendation GetABTest GetAgentCard GetAgentInsight GetBatchEvaluation GetBrowserSession
        GetCodeInterpreterSession GetDatasetGeneration GetEvent GetPaymentInstrument
        GetPaymentInstrumentBalance GetPaymentSession GetRecommendation ListABTests ListActors
        ListAgentInsights ListBatchEvaluations ListBrowserSessions ListCodeInterpreterSessions
        ListDatasetGenerations ListEvents ListMemoryExtractionJobs ListPaymentInstruments
        ListPaymentSessions ListRecommendations ListSessions StopBatchEvaluation StopBrowserSession
        StopCodeInterpreterSession StopRuntimeSession
    """,
}
"""Their names by service, as botocore spells both."""
