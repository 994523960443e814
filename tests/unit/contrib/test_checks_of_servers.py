"""The checks of ``check --deploy``: real servers, really so set up."""

from __future__ import annotations

import re
import time
from io import StringIO
from pathlib import Path

import pytest
import redis
from django.core.cache import caches
from django.core.management import call_command

from cachebridge.commands.facts import Facts, facts_about
from cachebridge.contrib.django.checks.server import _JUDGES, Asked
from cachebridge.errors import L2Error
from tests.rig import PATIENCE_S, PATIENT_SETTINGS, engine_of, eventually, lone_cache
from tests.unit.django.support import entry

SECURITY = Path(__file__).parents[3] / "SECURITY.md"
SMALL_LIMITS = ["1mb 512kb 60", "4mb 0 0", "0 1mb 1", "32mb 1mb 1"]
LARGE_LIMITS = ["32mb 8mb 60", "0 0 0", "8mb 1mb 60", "0 8mb 1"]


@pytest.fixture
def owned(redis_server_factory):
    """Return a server of the test's own, and a client of its administrator."""
    server = redis_server_factory()
    with redis.Redis.from_url(server.url) as admin:
        yield server, admin


@pytest.fixture
def found(owned, run_checks, set_caches):
    """Return a function that runs all checks with caches on that server."""
    server, _ = owned

    def find(location: str = server.url, **params):
        set_caches(default=entry(location, **params))
        return run_checks()

    return find


def account(owned, *rules: str) -> str:
    """Make an account with these rules and return its LOCATION."""
    server, admin = owned
    login = ("reset", "on", ">my-secret", "resetchannels")
    admin.execute_command("ACL", "SETUSER", "shop", *login, *rules)
    return server.url.replace("redis://", "redis://shop:my-secret@")


def test_nothing_to_say(found):
    """A server as Redis sets it up passes; so does an L2 in this process."""
    assert found() == {}
    assert found(TIMEOUT=None) == {}
    assert found("memory://checks") == {}


# -- W005 ------------------------------------------------------------------------------


def test_only_under_deploy(owned, found, run_checks):
    """Without --deploy no server is asked."""
    owned[0].kill()
    assert list(found()) == ["cachebridge.W005"]
    assert run_checks(deploy=False) == {}


def test_a_dead_server(owned, found):
    """One warning, whatever else would be wrong, also through the command."""
    owned[0].kill()
    messages = found(TIMEOUT=None)
    assert list(messages) == ["cachebridge.W005"]
    assert "refused" in messages["cachebridge.W005"].msg
    printed = StringIO()
    call_command("check", tags=["cachebridge"], deploy=True, stderr=printed)
    assert printed.getvalue().count("cachebridge.W") == 1


def test_a_silent_server(owned, found):
    """The wait is bounded, whatever the cache's own timeouts are."""
    owned[0].pause()
    began = time.monotonic()
    assert list(found(OPTIONS=PATIENT_SETTINGS)) == ["cachebridge.W005"]
    assert time.monotonic() - began < PATIENCE_S  # the cache's own are far longer


def test_a_wrong_password(owned, found):
    """The same warning, without any password in it."""
    server, admin = owned
    admin.config_set("requirepass", "the-right-one")
    for login in ("", ":my-secret@"):
        messages = found(server.url.replace("redis://", f"redis://{login}"))
        assert list(messages) == ["cachebridge.W005"]
        assert "my-secret" not in str(messages)
    assert found(server.url.replace("redis://", "redis://:the-right-one@")) == {}


def test_a_server_is_asked_once(owned, run_checks, set_caches):
    """Aliases on one server share a warning that names them all."""
    server, _ = owned
    server.kill()
    set_caches(default=entry(server.url), second=entry(server.url, KEY_PREFIX="s"))
    assert "'default', 'second'" in run_checks()["cachebridge.W005"].msg


# -- E002, E003, W012 ------------------------------------------------------------------


def test_a_server_in_cluster_mode(redis_server_factory, run_checks, set_caches):
    """E002, with the way out: nothing works there but what one slot has."""
    server = redis_server_factory(args=("--cluster-enabled", "yes"))
    set_caches(default=entry(server.url))
    message = run_checks()["cachebridge.E002"]
    assert "redis+cluster://" in message.hint
    with redis.Redis.from_url(server.url) as admin:
        admin.execute_command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        eventually(lambda: "state:ok" in str(admin.execute_command("CLUSTER", "INFO")))
    with pytest.raises(L2Error, match=r"redis\+cluster://") as caught:
        lone_cache(server.url, on_error="raise").set_many({"a": 1, "b": 2})
    assert caught.value.is_permanent


def test_a_cluster(shared_cluster, run_checks, set_caches):
    """E002 is for one node given as a server; the cluster's URL is what it advises."""
    set_caches(default=entry(shared_cluster.url))
    assert not {"cachebridge.E002", "cachebridge.W005"} & set(run_checks())
    node = shared_cluster.masters()[0]
    set_caches(default=entry(node.url))
    assert "redis+cluster://" in run_checks()["cachebridge.E002"].hint


def test_a_replica(owned, found):
    """E003, with the way out."""
    owned[1].replicaof("127.0.0.1", "1")
    messages = found()
    assert list(messages) == ["cachebridge.E003"]
    assert "address of the primary" in messages["cachebridge.E003"].hint


def test_two_spellings_of_one_server(owned, run_checks, set_caches):
    """W012 names both; two databases of one server are two places."""
    server, _ = owned
    other = server.url.replace("127.0.0.1", "localhost")
    set_caches(default=entry(server.url), second=entry(other, KEY_PREFIX="s"))
    message = run_checks()["cachebridge.W012"]
    assert "'default'" in message.msg
    assert "'second'" in message.msg
    set_caches(default=entry(server.url), second=entry(other.replace("/0", "/1")))
    assert run_checks() == {}


# -- W006 ------------------------------------------------------------------------------


def test_the_version_is_read(owned, set_caches):
    """What a real server says about its version arrives as numbers."""
    server, admin = owned
    set_caches(default=entry(server.url))
    version = facts_about(engine_of(caches["default"])).version
    assert ".".join(map(str, version)) == admin.info("server")["redis_version"]


@pytest.mark.parametrize(
    ("version", "ids"),
    [
        ((6, 0, 16), ["cachebridge.W006"]),
        ((5, 0), ["cachebridge.W006"]),
        ((6, 2), []),
        ((6, 2, 0), []),
        ((7, 2, 4), []),
        ((10, 0), []),
        (None, []),
    ],
)
def test_an_old_server(version, ids):
    """A version before 6.2 is named; one that is not told is not."""
    asked = Asked(("default",), (), "redis://h/0", True, 2.0, Facts(version=version))
    messages = [message for judge in _JUDGES if (message := judge(asked))]
    assert [message.id for message in messages] == ids


# -- W007, W008 ------------------------------------------------------------------------


def test_writes_fail_when_full(owned, found):
    """W007 with a limit and noeviction; not without a limit, nor with allkeys."""
    _, admin = owned
    assert admin.config_get("maxmemory-policy")["maxmemory-policy"] == "noeviction"
    assert found() == {}
    admin.config_set("maxmemory", "64mb")
    messages = found()
    assert list(messages) == ["cachebridge.W007"]
    assert "67108864" in messages["cachebridge.W007"].msg
    for policy in ("allkeys-lru", "allkeys-lfu", "volatile-lru"):
        admin.config_set("maxmemory-policy", policy)
        assert found() == {}


def test_keys_that_are_never_evicted(owned, run_checks, set_caches):
    """W008 with a limit, volatile-*, and TIMEOUT None, naming the aliases concerned."""
    server, admin = owned
    set_caches(
        default=entry(server.url, KEY_PREFIX="d"),
        kept=entry(server.url, KEY_PREFIX="k", TIMEOUT=None),
    )
    admin.config_set("maxmemory-policy", "volatile-ttl")
    assert run_checks() == {}
    admin.config_set("maxmemory", "64mb")
    messages = run_checks()
    assert list(messages) == ["cachebridge.W008"]
    assert messages["cachebridge.W008"].hint.startswith("Give 'kept' a TIMEOUT")
    admin.config_set("maxmemory-policy", "allkeys-lru")
    assert run_checks() == {}


# -- W009 ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ("+@all", "PUBLISH SUBSCRIBE shared private"),
        ("+@all &cachebridge:0", "PUBLISH SUBSCRIBE private"),
        ("+@all allchannels -publish", "PUBLISH shared private"),
        ("+@all allchannels -subscribe", "SUBSCRIBE shared private"),
        ("+@all &cachebridge:*", ""),
        ("+@all allchannels", ""),
    ],
)
def test_rights_to_the_channels(owned, found, rules, refused):
    """W009 names exactly the commands and channels that the account is denied."""
    messages = found(account(owned, "~*", *rules.split()))
    assert list(messages) == (["cachebridge.W009"] if refused else [])
    text = messages["cachebridge.W009"].msg if refused else ""
    denied = re.findall(r"(PUBLISH|SUBSCRIBE) cachebridge:0(:[0-9a-f]+)?", text)
    words = {word for word, _ in denied}
    words |= {"private" if private else "shared" for _, private in denied}
    assert words == set(refused.split())
    assert "my-secret" not in text


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        ("-evalsha -eval", ["EVALSHA", "EVAL"]),
        ("-@scripting", ["EVALSHA", "EVAL"]),
        ("-eval", ["EVAL"]),
    ],
)
@pytest.mark.parametrize("options", [{}, {"BUS": "none"}], ids=["bus", "no bus"])
def test_rights_to_scripts(owned, found, rules, refused, options):
    """W009 names the commands without which nothing can be changed, and the remedy."""
    location = account(owned, "~*", "+@all", "allchannels", *rules.split())
    (message,) = found(location, OPTIONS=options).values()
    assert message.id == "cachebridge.W009"
    assert f"refuses {', '.join(refused)} to the account" in message.msg
    assert "+evalsha +eval" in message.hint


def test_a_server_without_scripts(redis_server_factory, run_checks, set_caches):
    """A server that does not know EVALSHA at all is the same to a cache."""
    server = redis_server_factory(args=("--rename-command", "EVALSHA", ""))
    set_caches(default=entry(server.url))
    (message,) = run_checks().values()
    assert message.id == "cachebridge.W009"
    assert "refuses EVALSHA to the account" in message.msg


@pytest.mark.parametrize("level", ["bus", "l1"])
def test_rights_that_are_not_needed(owned, found, level):
    """Without a bus no channel is used; without an L1 no process subscribes."""
    location = account(owned, "~*", "+@all", "-subscribe", "&cachebridge:0")
    options = {"BUS": "none"} if level == "bus" else {"L1_MAX_ENTRIES": 0}
    assert found(location, OPTIONS=options) == {}
    location = account(owned, "~*", "+@all")
    expected = [] if level == "bus" else ["cachebridge.W009"]
    assert list(found(location, OPTIONS=options)) == expected


def test_each_server_is_judged_by_its_part(owned, found, redis_server_factory):
    """With BUS_LOCATION the one has the keys, the other the channels and buffers."""
    keys = account(owned, "~*", "+@all", "-publish", "-subscribe")
    bus = redis_server_factory()
    options = {"BUS_LOCATION": bus.url}
    owned[1].config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    with redis.Redis.from_url(bus.url) as admin:
        admin.config_set("maxmemory", "64mb")
        assert found(keys, OPTIONS=options) == {}
        admin.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
        login = ("reset", "on", ">my-secret", "~*", "+@all", "-evalsha")
        admin.execute_command("ACL", "SETUSER", "shop", *login)
    options["BUS_LOCATION"] = bus.url.replace("redis://", "redis://shop:my-secret@")
    owned[1].config_set("maxmemory", "64mb")
    messages = found(keys, OPTIONS=options)
    numbers = [f"cachebridge.W{number}" for number in ("007", "009", "010")]
    assert sorted(messages) == numbers
    assert messages[numbers[0]].msg.startswith(f"redis://shop:***@{owned[0].host}:")
    for number in numbers[1:]:
        assert "BUS_LOCATION of cache 'default'" in messages[number].msg
    assert "refuses PUBLISH" in messages[numbers[1]].msg
    owned[1].execute_command("ACL", "SETUSER", "shop", "-evalsha")
    bus.kill()
    assert "refuses EVALSHA to" in found(keys, OPTIONS=options)[numbers[1]].msg


def test_no_process_notices_it(owned, found):
    """Checking rights sends no message and changes no key."""
    _, admin = owned
    with admin.pubsub(ignore_subscribe_messages=True) as ears:
        ears.psubscribe("*")
        assert ears.get_message(timeout=5) is None
        assert found() == {}
        admin.publish("end", "")
        heard = ears.get_message(timeout=5)
    assert heard["channel"] == b"end"
    assert admin.dbsize() == 0


def test_the_documented_account_passes(owned, found):
    """The account of SECURITY.md may not ask for everything: what is unknown is silent.

    The buffer limit would be warned about if it could be read.
    """
    _, admin = owned
    (rule,) = re.findall(
        r"^```\nACL SETUSER shop (.*?)^```$",
        SECURITY.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    admin.config_set("client-output-buffer-limit", "pubsub 1mb 0 0")
    location = account(owned, *rule.split())
    assert found(location) == {}
    # INFO tells of memory, also on servers that keep CONFIG to themselves.
    admin.config_set("maxmemory", "64mb")
    assert list(found(location)) == ["cachebridge.W007"]


# -- W010 ------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", SMALL_LIMITS)
def test_a_small_buffer(owned, found, limit):
    """W010 for limits that a short pause of a process can reach."""
    owned[1].config_set("client-output-buffer-limit", f"pubsub {limit}")
    messages = found()
    assert list(messages) == ["cachebridge.W010"]
    assert "pubsub" in messages["cachebridge.W010"].msg
    assert found(OPTIONS={"L1_MAX_ENTRIES": 0}) == {}
    assert found(OPTIONS={"BUS": "none"}) == {}


@pytest.mark.parametrize("limit", LARGE_LIMITS)
def test_a_large_buffer(owned, found, limit):
    """No warning for Redis's default, no limit, or a soft one that trust is below."""
    owned[1].config_set("client-output-buffer-limit", f"pubsub {limit}")
    assert found() == {}
