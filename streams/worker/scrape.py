"""Read the metrics of the worker that these settings describe, over HTTP, as Prometheus does."""

from __future__ import annotations

import urllib.request

from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.samples import Sample

from streams.settings import MetricsSettings

TIMEOUT_S = 3.0
ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}


def url_of(metrics: MetricsSettings) -> str:
    """The address of the worker's metrics.

    >>> url_of(MetricsSettings(host="0.0.0.0", port=9464))
    'http://127.0.0.1:9464/metrics'
    """
    host = ANY_ADDRESS.get(metrics.host, metrics.host)
    return f"http://{f'[{host}]' if ':' in host and '[' not in host else host}:{metrics.port}/metrics"


def scrape(metrics: MetricsSettings) -> list[Sample]:
    """Read all samples.

    Raises
    ------
    OSError, ValueError, http.client.HTTPException
        No worker answers there, it refuses the token, or another program answers.
    """
    request = urllib.request.Request(url_of(metrics))
    if metrics.token is not None:
        request.add_header("Authorization", f"Bearer {metrics.token.get_secret_value()}")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # no proxy between us and a worker
    with opener.open(request, timeout=TIMEOUT_S) as response:
        text = response.read().decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
