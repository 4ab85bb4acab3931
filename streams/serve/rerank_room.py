"""`POST /v1/rerank`: scores of given candidates, now. Knows HTTP, and neither users nor models."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from concurrent.futures.process import BrokenProcessPool

from starlette.requests import Request
from starlette.responses import Response

from encoders.interest_record import StateUnreadable
from streams.bodies import Reranked, RerankQuestion
from streams.serve.openapi import GUARDED, json_of, operation
from streams.serve.problems import Problem, json_response
from streams.serve.replica import ReplicaNotReady
from streams.serve.requests import Parameters, read_json
from streams.serve.rerank import BadRerank, Reranker
from streams.serve.rooms import Endpoint
from streams.serve.score_batches import ScorerOverloaded
from streams.settings import Settings

logger = logging.getLogger(__name__)

RETRY_AFTER_S = "1"


class RerankRoom:
    """Answers questions.

    Parameters
    ----------
    settings : Settings
        How large a body may be, and how long the model may take.
    reranker : Reranker
        Knows the answers.
    """

    def __init__(self, settings: Settings, reranker: Reranker) -> None:
        self._max_body_bytes = settings.http.max_body_bytes
        self._timeout_s = settings.ranker.timeout_ms / 1000
        self._reranker = reranker

    def endpoints(self) -> Sequence[Endpoint]:
        """Return the one route."""
        described = operation(
            "Score candidates for a user now, by the model and the features of the lists.",
            {"200": ("The candidates, best first. Those that nobody knows are in `errors`.", json_of(Reranked))},
            {*GUARDED, "400", "413", "415", "503"},
            body=RerankQuestion,
        )
        return [Endpoint("POST", "/v1/rerank", self._post, "rank", described)]

    def why_not_ready(self) -> list[str]:
        """Return that the models or the catalogue are loading; nothing if they are loaded."""
        return [] if self._reranker.is_ready else ["rerank: the models or the catalogue are loading"]

    async def start(self) -> None:
        """Begin to prepare the models, in the background."""
        await self._reranker.start()

    async def stop(self) -> None:
        """Ask the models nothing any more."""
        await self._reranker.stop()

    async def _post(self, request: Request) -> Response:
        Parameters(request, ())
        question = await read_json(request, RerankQuestion, self._max_body_bytes)
        try:
            return json_response(await asyncio.wait_for(self._reranker.answer(question), self._timeout_s))
        except BadRerank as error:
            raise Problem(400, "invalid_body", str(error)) from None
        except ReplicaNotReady as error:
            raise _later("models_loading", str(error)) from None
        except ScorerOverloaded as error:
            raise _later("overloaded", str(error)) from None
        except asyncio.TimeoutError:
            raise _later("model_timeout", "got no scores in time, expected them; try again with fewer") from None
        except BrokenProcessPool:
            raise _later("models_loading", "got a models' process that ended, expected one; a new one loads") from None
        except StateUnreadable as error:
            logger.error("%s", error)
            raise _later("state_unreadable", "got a user whose state this server cannot read; see its log") from None


def _later(code: str, message: str) -> Problem:
    return Problem(503, code, message, {"Retry-After": RETRY_AFTER_S})
