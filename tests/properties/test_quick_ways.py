"""
The usual request is read by a shorter way, which comes to what the long one does.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bedrock_guard.domain.entry import Attempt
from bedrock_guard.domain.model_id import parse_model_id
from bedrock_guard.families import family_of
from bedrock_guard.families.limits import output_limit, stated_limit
from bedrock_guard.families.measure import Measure
from bedrock_guard.hooks.attempts import AttemptLog, outcome_of_status
from bedrock_guard.operations.converse import CONVERSE

IDS = ["us.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon.nova-lite-v1:0", "no model", "abc123def456"]
TEXT = st.text() | st.text(st.characters(max_codepoint=127)) | st.integers() | st.none()


@given(role=TEXT, texts=st.lists(TEXT))
def test_text_counts_as_a_measure_counts_it(role: object, texts: list[object]) -> None:
    """
    Plain ASCII is counted where it is found.
    """
    blocks = [{"text": text} for text in texts]
    message = {"role": role, "content": blocks}
    seen = Measure()
    for each in [role, *texts, *texts]:
        seen.text(each)

    size = CONVERSE.read_call({"modelId": IDS[0], "messages": [message], "system": blocks}, region="r").size

    assert (size.text_bytes, size.messages) == (seen.text_bytes, 2 * len(texts) or 1)


@given(stated=st.integers() | st.integers(min_value=(1 << 62) - 2) | st.floats() | st.booleans() | st.text())
def test_a_limit_alone_is_read_as_one_among_others(stated: object) -> None:
    """
    With no field that could state another.
    """
    assert stated_limit(stated) == output_limit({}, stated=stated)


@pytest.mark.parametrize("model_id", IDS)
def test_a_model_that_is_known_is_what_its_id_says(model_id: str) -> None:
    """
    The first time and again.
    """
    model = parse_model_id(model_id)
    for _ in range(2):
        call = CONVERSE.read_call({"modelId": model_id}, region="r")
        assert (call.model, call.family) == (model, family_of(model).name)
        assert call == CONVERSE.read_call({"modelId": model_id}, region="r", model=model)


@pytest.mark.parametrize("status", [200, 201])
def test_an_answer_is_noted_as_its_status_says(status: int) -> None:
    """
    One of 200 is made once for all.
    """
    log = AttemptLog()
    log.begin()
    log.note_answer(status, {})

    assert log.close(None) == (Attempt(outcome_of_status(status), status, None),)
    assert AttemptLog().close(None) == ()
