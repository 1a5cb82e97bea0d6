from sqlmodel import SQLModel

from proxy.billing import tables


def test_money_is_kept_in_whole_numbers_of_64_bits():
    whole = {
        "entry": {"amount"},
        "statement": {"opening", "earned", "closing"},
        "transfer": {"at_us"},
        "period": {"seq", "closed_us"},
    }
    for name, columns in whole.items():
        for column in columns:
            assert str(SQLModel.metadata.tables[name].c[column].type) == "BIGINT"


def test_every_row_of_a_booking_leads_to_what_it_belongs_to():
    keys = {str(key.target_fullname) for key in tables.EntryRow.metadata.tables["entry"].foreign_keys}
    assert keys == {"transfer.id", "account.id"}
