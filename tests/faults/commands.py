"""The operator's commands die at every step of their own. Given again each does what it should have done; what it had left
is whole or is refused, and the pool is sound."""

import shutil
import signal

from faults import Faults, harness
from fleet import check_store, rows

DONE, STORE, NOT_FOUND, REFUSED = 0, 4, 5, 7  # exit codes


class Command:
    """`words` of gradpool on the folder `pool`; `again` is what they end with once they have worked."""

    needs = ["pool"]  # folders

    def __init__(self, name, *words, again=REFUSED):
        self.name, self.words, self.again = name, words, again

    def data(self, place):
        return place / "pool"

    def run(self, place, env):
        """The exit code; `{}` in a word is the place."""
        return gradpool(self.data(place), *(str(word).format(place) for word in self.words), expect=None, env=env).returncode

    def steps(self, steps):
        """Those of a run's steps to die at."""
        return steps

    def clear(self, place):
        """What the operator takes away before the command is given again."""

    def check(self, place):
        check_store(self.data(place))


class Told(Command):
    """One whose outcome another command tells."""

    def __init__(self, name, *words, shown, told):
        super().__init__(name, *words)
        self.shown, self.told = shown, told

    def check(self, place):
        super().check(place)
        assert self.told in gradpool(self.data(place), *self.shown).stdout


class Export(Command):
    needs = ["pool", "exported"]

    def check(self, place):
        super().check(place)
        assert contents(place / "out") == contents(place / "exported"), "the exported model is another"


class Backup(Command):
    def clear(self, place):
        """What is left of a backup that died cannot be restored, or is whole."""
        if restored(place / "out", place / "left") == DONE:
            check_same(place / "left", place / "pool")
        shutil.rmtree(place / "out", ignore_errors=True)

    def check(self, place):
        super().check(place)
        assert restored(place / "out", place / "copy") == DONE
        check_same(place / "copy", place / "pool")


class Restore(Command):
    needs = ["pool", "backup"]

    def data(self, place):
        return place / "restored"

    def clear(self, place):
        """What is left of it is no pool, or another than the backed up one, or is whole."""
        opened = gradpool(self.data(place), "job", "list", expect=None).returncode == DONE
        if opened and (self.data(place) / "pool.key").read_bytes() == (place / "pool" / "pool.key").read_bytes():
            check_same(self.data(place), place / "pool")
        shutil.rmtree(self.data(place), ignore_errors=True)

    def check(self, place):
        check_same(self.data(place), place / "pool")


class Migration(Command):
    """`serve` on a store of the first schema, until it is ready; its steps end with the new schema."""

    needs = ["old"]

    def __init__(self, sandbox, newest):
        super().__init__("migration", again=DONE)
        self.pool, self.newest = harness.Pool(sandbox, "migrated"), newest

    def data(self, place):
        return place / "old"

    def run(self, place, env):
        self.pool.data = self.data(place)
        self.pool.launch(env=env)
        server = self.pool.server
        harness.wait_for("the start", lambda: (self.pool.data / "serve.json").exists() or not server.running(), 60)
        return server.stop()

    def steps(self, steps):
        end = "after commit schema"
        return steps[:steps.index(end) + 1] if end in steps else []

    def check(self, place):
        super().check(place)
        old = self.data(place)
        copies = sorted(file.name for file in old.glob("gradpool.db.schema*"))
        assert copies == ["gradpool.db.schema-1"], copies
        assert rows(old, "PRAGMA user_version") == self.newest
        assert rows(old, "PRAGMA user_version", copies[0]) == [(1,)]
        for file in ("gradpool.db", copies[0]):
            assert rows(old, "SELECT count(*) FROM results", file) == [(3,)]


def gradpool(data, *words, **options):
    return harness.run([harness.binary("gradpool"), "--data", data, *words], **options)


def restored(backup, to):
    """The exit code of a restore; where it is not DONE there was no whole backup."""
    code = gradpool(to, "restore", "--from", backup, expect=None).returncode
    assert code in (DONE, STORE, NOT_FOUND), code
    return code


def check_same(copy, pool):
    check_store(copy)
    for words in (("job", "list"), ("rig", "list"), ("ledger", "--json")):
        assert gradpool(copy, *words).stdout == gradpool(pool, *words).stdout, f"{words[0]} of a copy differ"
    assert (copy / "pool.key").read_bytes() == (pool / "pool.key").read_bytes()


def contents(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class Commands:
    """`fleet` has a pool with a job that is done, and with rigs; its server has stopped."""

    def __init__(self, sandbox, fleet, job):
        self.sandbox, self.places = sandbox, 0
        self.template = sandbox.folder / "commands"
        self.template.mkdir()
        shutil.copytree(fleet.pool.data, self.template / "pool")
        gradpool(self.template / "pool", *fleet.job_command("waiting", 1))
        gradpool(self.template / "pool", "backup", "--out", self.template / "backup")
        gradpool(self.template / "pool", "job", "export", job, "--out", self.template / "exported")
        harness.make_store_1(self.template / "old")
        rig = fleet.agents[0].name
        self.commands = [
            Told("account create", "account", "create", "new", shown=("account", "list"), told="new"),
            Told("dataset import", "dataset", "import", "new", "--text", fleet.text, shown=("dataset", "list"), told="new"),
            Told("job create", *fleet.job_command("new", 1), shown=("job", "list"), told="new"),
            Told("job pause", "job", "pause", "waiting", shown=("job", "show", "waiting"), told="paused"),
            Told("rig revoke", "rig", "revoke", rig, shown=("rig", "list"), told="revoked"),
            Export("job export", "job", "export", job, "--out", "{}/out", again=DONE),
            Backup("backup", "backup", "--out", "{}/out"),
            Restore("restore", "restore", "--from", "{}/backup"),
            Migration(sandbox, rows(self.template / "pool", "PRAGMA user_version"))]

    def place(self, command):
        self.places += 1
        place = self.sandbox.folder / f"command-{self.places}"
        for need in command.needs:
            shutil.copytree(self.template / need, place / need)
        return place, Faults(place)

    def die_at_steps(self, times, say):
        """times(steps): the steps to die at, in order. What earlier commands died at is no command's own."""
        done = set()
        for command in self.commands:
            place, faults = self.place(command)
            assert command.run(place, faults.unarmed()) == DONE, f"{command.name} failed"
            command.check(place)
            shutil.rmtree(place)
            own = [step for step in command.steps(faults.steps()) if step not in done]
            known, ways, deaths = done | set(faults.steps()), [[step] for step in own], 0
            while ways:
                new = {}  # steps that are reached only after a death: how
                for way in times(ways):
                    for step in self.die(command, way):
                        new.setdefault(step, [*way, step])
                    deaths += 1
                ways = [way for step, way in new.items() if step not in known]
                known |= set(new)
            say(f"{command.name}: died {deaths} times at {len(known - done)} steps of its own")
            done |= known

    def die(self, command, way):
        """Of one step after the other, and then no more; the steps that were reached then."""
        place, faults = self.place(command)
        for step in way:
            faults.arm(step)
            code = command.run(place, faults.env)
            assert code == -signal.SIGKILL, f"{command.name} did not die {step}, but ended with {code}"
            command.clear(place)
        code = command.run(place, faults.unarmed())
        assert code in (DONE, command.again), f"{command.name} ended with {code} after it died {way}"
        command.check(place)
        shutil.rmtree(place)
        return command.steps(faults.steps_of_last())
