"""Every renderer in one place, for whoever shows what the server answered.

They take messages of the contract and return renderables of Rich; they print
nothing and ask nobody.
"""

from __future__ import annotations

from sparekey.cli.event_tables import event_line, event_table
from sparekey.cli.key_tables import key_details, key_table
from sparekey.cli.svm_tables import held_key_table, svm_details, svm_table
from sparekey.cli.task_tables import outcome_table, task_summary, task_table

__all__ = [
    "event_line",
    "event_table",
    "held_key_table",
    "key_details",
    "key_table",
    "outcome_table",
    "svm_details",
    "svm_table",
    "task_summary",
    "task_table",
]
