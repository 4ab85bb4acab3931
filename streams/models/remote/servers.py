"""The servers that a model needs: which may be asked, and the connections to them."""

from __future__ import annotations

from encoders.models.source import ModelUnsupported
from ranker import version
from streams.models.remote.failure import SETTINGS
from streams.models.remote.scorer import HttpScorer
from streams.settings import RankerSettings


class RerankServers:
    """Connects to the address of a model: `connect` of `load_scorer`.

    Parameters
    ----------
    settings : RankerSettings
    *named : str
        Models that a person named beside those of the settings. A model's folder may name no other server than these.
    must_answer : bool
        Whether a server that is away is an error. A worker waits for it instead.
    """

    def __init__(self, settings: RankerSettings, *named: str, must_answer: bool = False) -> None:
        models = [settings.model, settings.challenger or "", *named]
        self._hosts = {*settings.rerank.hosts, *(version.name(model) for model in models if version.is_url(model))}
        self._settings, self._must_answer = settings, must_answer
        self._scorers: list[HttpScorer] = []

    def __call__(self, url: str) -> HttpScorer:
        """Connect.

        Raises
        ------
        ModelUnsupported
            A folder names a server that nobody named here, or the server cannot be used.
        ModelNotFound
            It must answer, and does not.
        """
        host = version.name(url)
        if host not in self._hosts:
            raise ModelUnsupported(
                f"model: got a folder whose base is at {host}, expected a server of {SETTINGS}HOSTS, for it gets the "
                f"users' histories; add {host} there if you trust it"
            )
        scorer = HttpScorer(url, self._settings, self._must_answer)
        self._scorers.append(scorer)
        return scorer

    def away(self) -> list[str]:
        """Return which servers are not asked now, and why, in words."""
        return [f"the reranker {scorer.name}: {scorer.why_away}" for scorer in self._scorers if scorer.why_away]

    def close(self) -> None:
        """Close all connections."""
        while self._scorers:
            self._scorers.pop().close()
