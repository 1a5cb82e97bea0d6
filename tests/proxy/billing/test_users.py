from proxy.billing.policies import Activation, Agenda, of_settings
from proxy.billing.schemes import Terms
from proxy.billing.users import Users, keys_end_below
from proxy.settings import Billing, Scheme


def key_of(letter=b"k"):
    return lambda app, period: letter + f"{app}|{period}".encode()


KEY = key_of()
POOLED = Terms.from_settings(Billing(schemes=(Scheme(scheme="pool", app="app_p", medium="text"),)))


def digest(users=None, app="app_p", subject="user-7", endpoint="chat.completions", us=5):
    return (users or Users(KEY, POOLED)).digest(app, "m", endpoint, us, subject)


def test_a_user_is_known_by_a_digest_within_one_app_and_period_only():
    assert len(digest()) == 64
    assert digest() == digest()
    every = Terms.from_settings(Billing(scheme="pool"))
    others = {
        digest(subject="user-8"),
        digest(Users(KEY, every), app="app_q"),
        digest(Users(KEY, POOLED, closed=1)),
        digest(Users(key_of(b"j"), POOLED)),
    }
    assert len(others | {digest()}) == 5
    assert "user-7" not in digest()


def test_where_no_pool_pays_or_nobody_is_named_nothing_is_kept():
    assert digest(app="app_q") == digest(endpoint="images.edits") == digest(subject="") == ""


def test_the_policy_of_the_answers_time_decides():
    pooled = of_settings(Billing(scheme="pool"))
    users = Users(KEY, Terms.of_agenda(Agenda(of_settings(Billing()), (Activation(1, 10, pooled),))))
    assert digest(users, us=9) == ""
    assert digest(users, us=10)


def test_keys_are_needed_for_the_running_period_and_for_drafts():
    assert keys_end_below([], 100) == 0
    assert keys_end_below([(1, 0)], 100) == 1
    assert keys_end_below([(1, 90), (2, 100), (3, 101), (4, 130)], 100) == 2
    assert keys_end_below([(2, 100), (1, 90)], 100) == 2
