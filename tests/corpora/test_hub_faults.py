"""The hub corpus when the hub fails, refuses, or is left in the middle."""

import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.corpora.conftest import ROWS
from tests.servers.client import PRELUDE, Client, Failed, environment, run_alone
from tests.servers.dataset import articles
from tests.servers.hub import HubServer


def expected() -> list[list[str]]:
    return [[row["id"], row["title"], row["url"], row["text"][:1200]] for row in articles(ROWS)]


@pytest.mark.parametrize(
    ("repo", "fault"),
    [
        ("faulty/status", lambda hub: hub.fail_reads(1, 503, after=5)),
        ("faulty/drop", lambda hub: hub.drop_reads(1, after=5)),
        ("faulty/stall", lambda hub: hub.stall_reads(1, 2.0, after=5)),
    ],
    ids=["status", "drop", "stall"],
)
def test_a_read_that_fails_once_is_retried_and_noted(
    client: Client, hub: HubServer, repo: str, fault
) -> None:
    fault(hub)
    read, notes = client.run(
        f"notes = Notes(); value = [rows(corpus({repo!r}, progress=notes).blocks()), notes]"
    )
    assert read == expected()
    assert len(notes) == 1
    assert "etrying in" in notes[0]
    assert "\n" not in notes[0]


def test_a_card_that_is_no_yaml_is_told_with_its_line(client: Client) -> None:
    with pytest.raises(Failed, match=r"the card of broken/card \(README.md\) is no YAML in line 4: choose a"):
        client.run('value = list(corpus("broken/card", None, columns={"text": "body"}).blocks())')


def test_data_that_cannot_be_read_are_not_blamed_on_the_network(client: Client) -> None:
    with pytest.raises(Failed, match=r"broke off after 0 rows \(.*\): its files are damaged, or unlike"):
        client.run("""
            columns, optional = {"text": "body"}, ["id", "title", "url"]
            value = list(corpus("unlike/lines", None, columns=columns, optional=optional).blocks())
        """)


def test_a_read_that_goes_on_failing_loses_nothing(client: Client, hub: HubServer) -> None:
    hub.fail_reads(1, 410, after=5)
    with pytest.raises(Failed, match=r"reading faulty/gone .* after \d+ rows \(HTTP 410\): try again once"):
        client.run("""
            import builtins
            builtins.read = read = []
            for block in corpus("faulty/gone").blocks():
                read.append(block)
        """)
    value = client.run("""
        import builtins
        read = builtins.read
        value = [len(read), rows(read) + rows(corpus("faulty/gone").blocks(read[-1].position))]
    """)
    assert 0 < value[0] < 6
    assert value[1] == expected()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            'corpus("no/such")',
            r"there is no dataset no/such on the hub at http://127.*private: check what you named",
        ),
        (
            'corpus("many/configs", "20231101.enn")',
            r"no configuration '20231101.enn': choose one of 20231101.en, .* and 32 others",
        ),
        ('corpus("many/configs", None)', r"several configurations: choose one of "),
        ('corpus(config="20231101.de")', r"no configuration '20231101.de': choose one of 20231101.en"),
        ('corpus(split="test")', r"has no split 'test': choose one of train"),
        ('corpus("gated/open")', r"gated/open is a gated dataset: .*HF_TOKEN"),
        (f'corpus(revision="{"0" * 40}")', r"no dataset \S+ at revision 0{40} on the hub"),
        ('corpus(revision="branch")', r"no dataset \S+ at revision branch on the hub"),
    ],
)
def test_what_the_hub_does_not_have(client: Client, call: str, message: str) -> None:
    with pytest.raises(Failed, match=f"^HubError: .*{message}"):
        client.run(f"next({call}.blocks())")


def test_a_token_opens_a_gated_dataset_and_is_never_reported(client: Client) -> None:
    source = """
        os.environ["HF_TOKEN"] = {token!r}
        try:
            value = len(rows(corpus({repo!r}).blocks()))
        finally:
            del os.environ["HF_TOKEN"]
    """
    assert client.run(source.format(token="hf_granted", repo="gated/open")) == ROWS
    for repo, message in (("gated/open", "gated"), ("no/such", "there is no dataset")):
        with pytest.raises(Failed, match=message) as failed:
            client.run(source.format(token="hf_other", repo=repo))
        assert "hf_other" not in str(failed.value)


def test_a_failing_hub_is_reported_at_once(client: Client, hub: HubServer) -> None:
    hub.down = True
    began = time.monotonic()
    with pytest.raises(
        Failed, match=r"HubError: the hub at http://127\S+ failed to answer \(HTTP 503\): try again"
    ):
        client.run("corpus().spec()")
    assert time.monotonic() - began < 5


def test_offline_mode_is_named(client: Client) -> None:
    with pytest.raises(Failed, match=r"HubError: .*HF_HUB_OFFLINE is set"):
        client.run("""
            from huggingface_hub import constants
            constants.HF_HUB_OFFLINE = True
            try:
                corpus().spec()
            finally:
                constants.HF_HUB_OFFLINE = False
        """)


def test_an_unreachable_hub_is_reported_at_once_and_an_exit_is_silent(tmp_path: Path) -> None:
    source = """
        import time
        began = time.monotonic()
        try:
            corpus().spec()
        except Exception as error:
            print(type(error).__name__, error)
        print(time.monotonic() - began < 20)
    """
    done = run_alone(source, "http://127.0.0.1:9", tmp_path)
    assert "HubError the hub at http://127.0.0.1:9 cannot be reached" in done.stdout
    assert "check the network, and HF_ENDPOINT" in done.stdout
    assert done.stdout.endswith("True\n")
    assert (done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("variable", ["HF_HOME", "HF_DATASETS_CACHE"])
def test_a_cache_that_cannot_be_written_is_named_with_its_variable(
    hub: HubServer, tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "file"
    file.touch()
    source = f"""
        os.environ["{variable}"] = {str(file)!r}
        try:
            next(corpus().blocks())
        except Exception as error:
            print(type(error).__name__, error)
    """
    done = run_alone(source, hub.url, tmp_path)
    assert done.stdout.startswith(f"HubError the hub's client cannot use {file}"), done
    assert "name another folder for its cache" in done.stdout
    assert variable in done.stdout


def test_a_stream_that_is_closed_ends_silently(hub: HubServer, tmp_path: Path) -> None:
    source = """
        stream = corpus("big/rows", optional=["title", "url"]).blocks()
        next(stream)
        stream.close()
        print("done")
    """
    done = run_alone(source, hub.url, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("done\n", "", 0)


def test_an_interrupt_ends_a_read_that_hangs(hub: HubServer, tmp_path: Path) -> None:
    source = """
        stream = corpus("big/rows", optional=["title", "url"]).blocks()
        next(stream)
        print("reading", flush=True)
        try:
            list(stream)
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    """
    env = environment(hub.url, tmp_path) | {"HF_HUB_DOWNLOAD_TIMEOUT": "60"}
    with subprocess.Popen(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=env,
    ) as process:
        hub.stall_reads(1, 60.0, after=5)
        assert process.stdout.readline() == "reading\n"
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert (out, err) == ("interrupted\n", "")
