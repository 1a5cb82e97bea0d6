import io
import json
import zipfile

from proxy.billing.held import Held, document

HELD = Held("c_1", {"creator": [{"id": "c_1", "name": "Ada"}], "claim": []}, {"w_1": "A lamp."})


def test_a_json_file_has_all_of_it():
    told = json.loads(document(HELD, zipped=False))
    assert told == {"creator": "c_1", "tables": dict(HELD.tables), "texts": dict(HELD.texts)}


def test_an_archive_has_a_file_for_each_table_and_each_text_and_is_the_same_bytes_again():
    made = document(HELD, zipped=True)
    assert made == document(HELD, zipped=True)
    with zipfile.ZipFile(io.BytesIO(made)) as archive:
        assert sorted(archive.namelist()) == ["claim.json", "creator.json", "texts/w_1.txt"]
        assert json.loads(archive.read("creator.json")) == [{"id": "c_1", "name": "Ada"}]
        assert archive.read("texts/w_1.txt") == b"A lamp."
