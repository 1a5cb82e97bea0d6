"""What an audit asks of whole tables, in SQL that both engines read: the rows that break an invariant.

A statement finds nothing where the invariant holds, so an answer is as long as what is wrong. Sums that could
pass 63 bits are asked for in two halves of 32 bits: SQLite's SUM fails where it overflows on the way.
"""

from __future__ import annotations

from typing import Final

_SIGNED: Final = "CASE e.side WHEN 'D' THEN e.amount ELSE -e.amount END"
_GROWN: Final = "CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END"
_HALVES: Final = """
SUM(CASE e.side WHEN 'D' THEN e.amount / 4294967296 ELSE -(e.amount / 4294967296) END),
SUM(CASE e.side WHEN 'D' THEN e.amount % 4294967296 ELSE -(e.amount % 4294967296) END)"""

# (invariant, how many rows are looked at)
COUNTED: Final = (
    ("I1", "SELECT count(*) FROM transfer"),
    ("I2", "SELECT count(*) FROM account"),
    ("I3", "SELECT count(*) FROM attributed"),
    ("I4", "SELECT count(*) FROM transfer WHERE kind IN ('charge', 'pool')"),
    ("I6", "SELECT (SELECT count(*) FROM event) + (SELECT count(*) FROM attributed)"),
    ("I9", "SELECT count(*) FROM statement"),
    ("I13", "SELECT count(*) FROM (SELECT DISTINCT work_id, version FROM split) v"),
    ("I14", "SELECT count(*) FROM event_line"),
    ("I16", "SELECT count(*) FROM entry"),
    ("I18", "SELECT (SELECT count(*) FROM creator) + (SELECT count(*) FROM erasure)"),
    ("I19", "SELECT count(*) FROM entry"),
)

_PAST_THE_MARK: Final = """
SELECT x.{key}, x.shard_id, x.idx FROM {table} x LEFT JOIN shard s ON s.id = x.shard_id
WHERE s.id IS NULL OR x.idx < 0 OR x.idx >= s.next_index"""
_BELOW_NOTHING: Final = """
SELECT s.code, -s.rest FROM (
  SELECT a.code, SUM({grown}) AS rest FROM entry e JOIN account a ON a.id = e.account_id
  WHERE a.code LIKE '{prefix}%' GROUP BY a.code, a.currency) s
WHERE s.rest < 0"""


def _below_nothing(invariant: str, prefix: str) -> tuple[str, str, str]:
    statement = _BELOW_NOTHING.format(grown=_GROWN, prefix=prefix)
    return invariant, "{0} is {1} grains below nothing", statement


# (invariant, what to say of a row, the statement that finds it)
BROKEN: Final = (
    (
        "I1",
        "transfer {0} ({1} {2}) has no entries",
        """SELECT t.id, t.kind, t.ref FROM transfer t
        WHERE NOT EXISTS (SELECT 1 FROM entry e WHERE e.transfer_id = t.id)""",
    ),
    (
        "I3",
        "answer {0}: its shares sum to {1} ppm",
        """SELECT s.event_id, s.ppm FROM (
          SELECT a.event_id, a.unattributed_ppm
            + COALESCE((SELECT SUM(l.ppm) FROM event_line l WHERE l.event_id = a.event_id), 0) AS ppm
          FROM attributed a) s
        WHERE s.ppm <> 1000000""",
    ),
    (
        "I6",
        "{2} records stand at {1} of {0}",
        """SELECT shard_id, idx, COUNT(*) FROM (
          SELECT shard_id, idx FROM event UNION ALL SELECT shard_id, idx FROM attributed) p
        GROUP BY shard_id, idx HAVING COUNT(*) > 1""",
    ),
    ("I6", "{0} stands at {2} of {1}, past what is carried", _PAST_THE_MARK.format(key="id", table="event")),
    (
        "I6",
        "the shares of {0} stand at {2} of {1}, past what is carried",
        _PAST_THE_MARK.format(key="event_id", table="attributed"),
    ),
    (
        "I11",
        "transfer {0} ({1}) is of no payment there is",
        """SELECT t.id, t.kind FROM transfer t
        WHERE t.kind IN ('payout', 'payout_tax', 'payout_settled', 'payout_return', 'payout_tax_return')
          AND NOT EXISTS (SELECT 1 FROM payout p WHERE p.id = t.ref)""",
    ),
    (
        "I11",
        "{0} was paid {1} grains more than ever was owed",
        """SELECT s.code, -s.rest FROM (
          SELECT a.code, SUM(CASE WHEN e.side = 'C' THEN e.amount
            WHEN t.kind IN ('payout', 'payout_tax') THEN -e.amount ELSE 0 END) AS rest
          FROM entry e JOIN account a ON a.id = e.account_id JOIN transfer t ON t.id = e.transfer_id
          WHERE a.code LIKE 'liab:payee:%' GROUP BY a.code, a.currency) s
        WHERE s.rest < 0""",
    ),
    _below_nothing("I5", "liab:common:"),
    _below_nothing("I11", "liab:payout:"),
    _below_nothing("I11", "liab:tax:"),
    _below_nothing("I12", "liab:escrow:"),
    (
        "I12",
        "dispute {0} holds {2} grains, its parties' are {1}",
        """SELECT s.id, s.held, s.there FROM (
          SELECT d.id, CASE WHEN EXISTS (SELECT 1 FROM dispute_event v
              WHERE v.dispute_id = d.id AND v.kind IN ('withdrawn', 'settled')) THEN 0
            ELSE (SELECT COALESCE(SUM(p.held), 0) FROM dispute_party p WHERE p.dispute_id = d.id) END AS held,
            (SELECT COALESCE(SUM(CASE e.side WHEN 'C' THEN e.amount ELSE -e.amount END), 0)
              FROM account a JOIN entry e ON e.account_id = a.id
              WHERE a.code = 'liab:escrow:dispute:' || d.id) AS there
          FROM dispute d) s
        WHERE s.held <> s.there""",
    ),
    (
        "I12",
        "{0} is of no dispute there is",
        """SELECT a.code FROM account a WHERE a.code LIKE 'liab:escrow:dispute:%'
          AND NOT EXISTS (SELECT 1 FROM dispute d WHERE a.code = 'liab:escrow:dispute:' || d.id)""",
    ),
    (
        "I13",
        "version {1} of the split of {0} sums to {2} ppm",
        """SELECT work_id, version, SUM(ppm) FROM split
        GROUP BY work_id, version HAVING SUM(ppm) <> 1000000""",
    ),
    (
        "I13",
        "version {1} of the split of {0} begins more than once",
        """SELECT work_id, version FROM split
        GROUP BY work_id, version HAVING MIN(valid_from_seq) <> MAX(valid_from_seq)""",
    ),
    (
        "I13",
        "version {1} of the split of {0} begins before one that it follows",
        """SELECT DISTINCT s.work_id, s.version FROM split s
        JOIN split o ON o.work_id = s.work_id AND o.version < s.version
        WHERE o.valid_from_seq > s.valid_from_seq""",
    ),
    (
        "I14",
        "answer {0} pays {1}, whose creator had denied that",
        """SELECT l.event_id, l.work_id FROM event_line l JOIN attributed a ON a.event_id = l.event_id
        WHERE l.verdict = 'paid'
          AND l.work_id IN (SELECT work_id FROM consent WHERE use = 'output_influence' AND verdict = 'denied')
          AND (SELECT c.verdict FROM consent c WHERE c.work_id = l.work_id AND c.use = 'output_influence'
            AND c.seq <= a.registry_seq ORDER BY c.seq DESC LIMIT 1) = 'denied'""",
    ),
    (
        "I14",
        "answer {0} pays {1}, which was withdrawn",
        """SELECT l.event_id, l.work_id FROM registry_event r
        JOIN event_line l ON l.work_id = r.work_id JOIN attributed a ON a.event_id = l.event_id
        WHERE r.kind = 'work_withdrawn' AND l.verdict = 'paid' AND r.seq <= a.registry_seq""",
    ),
    (
        "I16",
        "entry {1} of transfer {0} is {2} grains",
        "SELECT transfer_id, ord, amount FROM entry WHERE amount <= 0",
    ),
    (
        "I18",
        "creator {0} was erased, and their name is there",
        """SELECT x.id FROM erasure x JOIN creator c ON c.id = x.id
        WHERE x.kind = 'creator' AND c.name <> '(erased)'""",
    ),
    (
        "I18",
        "statement {0} names a creator who was erased",
        """SELECT s.id FROM erasure x JOIN statement s ON s.creator_id = x.id
        WHERE x.kind = 'creator' AND s.body NOT LIKE '%"name":"(erased)"%'""",
    ),
    (
        "I18",
        "version {1} of the account of {0} was erased, and is there",
        """SELECT p.creator_id, p.version FROM erasure x JOIN payee_account p ON p.creator_id = x.id
        WHERE x.kind = 'creator' AND length(p.sealed) > 0 AND p.at_us < x.at_us""",
    ),
    (
        "I18",
        "work {0} was erased, and its text is there",
        "SELECT x.id FROM erasure x JOIN work_text t ON t.work_id = x.id WHERE x.kind = 'work'",
    ),
    (
        "I19",
        "transfer {0} is in {1}, its account {2} in {3}",
        """SELECT t.id, t.currency, a.code, a.currency FROM entry e
        JOIN transfer t ON t.id = e.transfer_id JOIN account a ON a.id = e.account_id
        WHERE a.currency <> t.currency""",
    ),
    (
        "I19",
        "transfer {0} is in {1}, its period {2} in {3}",
        """SELECT t.id, t.currency, p.label, p.currency FROM transfer t
        JOIN period p ON p.label = t.period_label WHERE p.currency <> t.currency""",
    ),
)

# (invariant, what to say, the statement that gives names and two halves of a sum that must be 0)
SUMMED: Final = (
    (
        "I1",
        "transfer {0} ({1}): debits exceed credits by {2} grains",
        f"""SELECT t.id, t.kind, {_HALVES} FROM transfer t JOIN entry e ON e.transfer_id = t.id
        GROUP BY t.id, t.kind HAVING SUM({_SIGNED}) <> 0""",  # noqa: S608  our own words
    ),
    (
        "I2",
        "balances in {0} sum to {1} grains",
        f"""SELECT a.currency, {_HALVES} FROM entry e JOIN account a ON a.id = e.account_id
        GROUP BY a.currency""",  # noqa: S608  our own words
    ),
)

# Columns that must hold integers: every amount, share and count (tests/house/test_audited_tables.py).
INTEGERS: Final = (
    ("entry", "amount"),
    ("statement", "opening"),
    ("statement", "earned"),
    ("statement", "closing"),
    ("event", "price_grains"),
    ("event", "input_tokens"),
    ("event", "output_tokens"),
    ("event", "images"),
    ("event", "milliseconds"),
    ("event_line", "ppm"),
    ("attributed", "unattributed_ppm"),
    ("split", "ppm"),
    ("adaptation", "ppm"),
    ("review", "part_ppm"),
    ("asked_term", "value"),
    ("pool_revenue", "amount"),
    ("pool_revenue", "users"),
    ("dispute_party", "held"),
    ("payee_account", "minimum"),
    ("tax_profile", "treaty_ppm"),
    ("tax_declaration", "treaty_ppm"),
    ("trimmed_period", "answers"),
    ("manifest", "apps"),
    ("manifest", "payees"),
)
# Tables of which a period or a payment is a function, or what was said about one: nobody may change a row.
HISTORY: Final = (
    "event",
    "attributed",
    "event_line",
    "registry_event",
    "split",
    "consent",
    "claim",
    "claim_decision",
    "adaptation",
    "work_link",
    "app_link",
    "asked_term",
    "attestation",
    "licence",
    "licence_end",
    "licence_file",
    "review",
    "work_identifier",
    "log_entry",
    "log_node",
    "manifest",
    "sum_chunk",
    "trimmed_period",
    "trimmed_range",
    "policy",
    "policy_activation",
    "account",
    "transfer",
    "transfer_note",
    "entry",
    "period",
    "period_window",
    "statement",
    "statement_comment",
    "reported_transfer",
    "pool_revenue",
    "pool_revenue_decision",
    "distribution",
    "distribution_decision",
    "adjustment",
    "adjustment_event",
    "dispute",
    "dispute_event",
    "dispute_line",
    "dispute_party",
    "payee_account",
    "payee_hold",
    "payee_verified",
    "tax_profile",
    "tax_declaration",
    "tax_number",
    "erasure",
    "payout_batch",
    "payout",
    "payout_event",
)
