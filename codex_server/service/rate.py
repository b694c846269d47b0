"""Why a call is above its caller's rate."""

from codex_server.access.ratelimit import Allowance
from codex_server.errors import InvalidRequest, RateLimited


def rate_refusal(allowance: Allowance, cost: int) -> InvalidRequest | RateLimited | None:
    """The refusal of ``cost`` executions that were not counted; None for those that were."""
    if allowance.retry_after is None:
        return None
    if cost > 1:
        lowest = min(allowance.windows, key=lambda window: window.quota)
        if cost >= lowest.quota:  # one was counted before
            said = f"the batch is above the limit of {lowest.quota} executions in {lowest.seconds} s"
            return InvalidRequest(f"{said}; send at most {lowest.quota} items", "/items")
        smallest = min(allowance.windows, key=lambda window: window.remaining)
        return RateLimited(
            f"the batch needs {cost} more executions, and {smallest.remaining} are left of {smallest.quota} in "
            f"{smallest.seconds} s; send fewer items, or wait {allowance.retry_after} s",
            allowance.retry_after,
        )
    policies = " and ".join(f"{w.quota} in {w.seconds} s" for w in allowance.exhausted)
    return RateLimited(
        f"the limit of requests is used up ({policies}); wait {allowance.retry_after} s before the next",
        allowance.retry_after,
    )
