# SPDX-License-Identifier: Apache-2.0
"""
Many requests in one task: a journal, a budget, the account's slots, and one event loop that keeps them full.

``items`` reads requests, ``table`` keeps them on disk, ``rows`` and ``plan`` say what an attempt does with each,
``journal`` (``segments``, ``writer``) is what outlives the attempt, ``budget``, ``window`` and ``pace`` decide when the
next POST and the next poll come, ``way`` takes one item along, ``engine`` says who goes when, ``verdict`` judges the
end.
"""
