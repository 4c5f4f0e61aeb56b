"""`check` on leaky_server's sessions: budgets, formats, baselines, bad input."""

import glob
import json
import os
import shutil
import sys
import xml.etree.ElementTree

import tracing
import validation

DRIVE = os.path.join(tracing.SOURCE, "examples", "leaky_server", "drive.py")
REQUESTS = 120


def drive(folder, leaks, requests=REQUESTS):
    """A session of leaky_server with marks; its path."""
    session = os.path.join(folder, "session-" + (leaks.replace(",", "-") or "clean"))
    os.mkdir(session)
    command = [sys.executable, DRIVE, "--requests", str(requests), "--marks", os.path.join(session, "marks.jsonl"),
               "--env", f"LD_PRELOAD={tracing.LIB}", "--env", f"OLLAMATRACE_DIR={session}"]
    if leaks:
        command += ["--leak", leaks]
    done = tracing.run(command + ["--", tracing.LEAKY_SERVER, "--port=0"])
    assert done.status == 0, done.stdout + done.stderr
    return session


def check_sarif(document):
    """What SARIF 2.1.0 demands of the parts that are used (its sections 3.13 to 3.44)."""
    assert document["version"] == "2.1.0"
    for run in document["runs"]:
        driver = run["tool"]["driver"]
        assert driver["name"]
        rules = [rule["id"] for rule in driver["rules"]]
        assert len(rules) == len(set(rules)), rules
        for result in run["results"]:
            assert result["ruleId"] in rules
            assert result["message"]["text"]
            assert result["level"] in ("none", "note", "warning", "error")
            for location in result.get("locations", []):
                assert location["physicalLocation"]["region"]["startLine"] >= 1
                assert location["physicalLocation"]["artifactLocation"]["uri"]
            for stack in result.get("stacks", []):
                assert isinstance(stack["frames"], list)
    mistakes = validation.sarif_mistakes(document)  # None where the schema cannot be fetched
    assert not mistakes, mistakes


class CheckTest(tracing.TestCase):

    @classmethod
    def setUpClass(cls):
        cls.sessions = tracing.temporary_folder("check")
        cls.clean = drive(cls.sessions, "")
        cls.leaking = drive(cls.sessions, "request")
        cls.caching = drive(cls.sessions, "cache")
        expected = json.loads(tracing.run([tracing.LEAKY_SERVER, "--expect"]).stdout)
        cls.leak = next(leak for leak in expected if leak["leak"] == "request")

    def check(self, status, *arguments):
        done = tracing.leakview("check", *arguments)
        self.assertEqual(done.status, status, done.stdout + done.stderr)
        return done

    def one_line(self, status, *arguments):
        done = self.check(status, *arguments)
        self.assertEqual(done.stderr.count("\n"), 1, done.stderr)
        return done.stderr

    def test_clean_session_keeps_the_standard_budgets(self):
        done = self.check(0, self.clean)
        self.assertIn("none of ", done.stdout)
        self.assertNotIn("BROKEN", done.stdout)
        self.assertEqual(done.stderr, "")

    def test_cache_that_fills_passes_with_an_explanation(self):
        done = self.check(0, self.caching)
        self.assertRegex(done.stdout, r"not counted: .*CachePrompt.*, cache")

    def test_leak_is_named_in_every_format(self):
        folder = self.folder()
        files = {name: os.path.join(folder, name) for name in ("junit", "sarif", "markdown", "github", "json")}
        done = self.check(1, self.leaking, "--source-root", tracing.SOURCE,
                          *[f"--write={name}={path}" for name, path in files.items()])
        texts = {name: open(path, encoding="utf-8").read() for name, path in files.items()}
        place = f"{self.leak['file']}:{self.leak['line']}"
        self.assertIn(self.leak["function"].rsplit("::", 1)[-1], done.stdout)
        self.assertIn(place, done.stdout)
        self.assertIn(place, texts["markdown"])
        self.assertIn(self.leak["function"].rsplit("::", 1)[-1], texts["markdown"])

        suite = xml.etree.ElementTree.fromstring(texts["junit"])
        failures = suite.findall("./testsuite/testcase/failure")
        self.assertEqual(len(failures), int(suite.get("failures")))
        case = next(c for c in suite.iter("testcase") if c.get("name") == "leak-confidence")
        self.assertIn(place, case.find("failure").text)
        self.assertIn(self.leak["function"].rsplit("::", 1)[-1], case.find("failure").text)
        self.assertTrue(case.get("file").endswith(self.leak["file"]))
        self.assertEqual(case.get("line"), str(self.leak["line"]))

        sarif = json.loads(texts["sarif"])
        check_sarif(sarif)
        result = sarif["runs"][0]["results"][0]
        location = result["locations"][0]
        self.assertTrue(location["physicalLocation"]["artifactLocation"]["uri"].endswith(self.leak["file"]))
        self.assertEqual(location["physicalLocation"]["region"]["startLine"], self.leak["line"])
        self.assertIn(self.leak["function"].rsplit("::", 1)[-1],
                      location["logicalLocations"][0]["fullyQualifiedName"])

        self.assertRegex(texts["github"], rf"(?m)^::error file=[^:]*{self.leak['file']},line={self.leak['line']},")
        answer = json.loads(texts["json"])
        self.assertEqual((answer["schema"], answer["broken"]), ("ollama-leakview/check/1", True))

    def test_every_format_on_standard_output(self):
        for name in ("text", "markdown", "junit", "sarif", "github", "json"):
            self.assertTrue(self.check(0, self.clean, "--format", name).stdout, name)

    def test_clean_documents(self):
        suite = xml.etree.ElementTree.fromstring(self.check(0, self.clean, "--format=junit").stdout)
        self.assertEqual(suite.get("failures"), "0")
        sarif = json.loads(self.check(0, self.clean, "--format=sarif").stdout)
        check_sarif(sarif)
        self.assertEqual(sarif["runs"][0]["results"], [])

    def test_suppressions(self):
        file = os.path.join(self.folder(), "known.supp")
        with open(file, "w", encoding="utf-8") as out:
            out.write(f"# known\nleak:{self.leak['function'].rsplit('::', 1)[-1]}\nleak:NobodyKnows\n")
        done = self.check(0, self.leaking, "--suppressions", file)
        self.assertIn("suppression not used: leak:NobodyKnows", done.stdout)

    def test_budget_file_with_a_named_stack(self):
        file = os.path.join(self.folder(), "budget.yaml")
        with open(file, "w", encoding="utf-8") as out:
            out.write("budgets:\n  leak-confidence: off\nstacks:\n  - function: LeakPrompt\n    bytes: 100K\n")
        done = self.check(1, self.leaking, "--budget", file)
        self.assertIn("bytes of LeakPrompt", done.stdout)
        self.check(0, self.clean, "--budget", file)

    def test_baseline(self):
        again = drive(self.folder(), "request")
        done = self.check(0, again, "--baseline", self.leaking)
        self.assertIn("no worse", done.stdout)
        self.check(1, again, "--baseline", self.clean)

    def test_truncated_baseline(self):
        cut = os.path.join(self.folder(), "cut")
        shutil.copytree(self.clean, cut)
        trace = glob.glob(os.path.join(cut, "*.zst"))[0]
        os.truncate(trace, os.path.getsize(trace) - 100)
        self.assertIn("baseline is cut short", self.one_line(3, self.leaking, "--baseline", cut))

    def test_bad_input(self):
        folder = self.folder()
        bad = os.path.join(folder, "bad.yaml")
        with open(bad, "w", encoding="utf-8") as out:
            out.write("budgets:\n  growth-per-reqest: 1M\n")
        self.assertIn('bad.yaml:2: unknown key "growth-per-reqest"; did you mean "growth-per-request"?',
                      self.one_line(2, self.clean, "--budget", bad))
        self.one_line(2)
        self.one_line(2, self.clean, "--budget", os.path.join(folder, "none.yaml"))
        self.assertIn("contradicts", self.one_line(2, self.clean, "--peak=1G", "--peak=2G"))
        self.assertIn("nothing could be worse", self.one_line(2, self.clean, "--baseline", self.clean))
        self.assertIn("no process is named nobody", self.one_line(2, self.clean, "--process=nobody"))
        self.one_line(3, os.path.join(folder, "none"))
        self.one_line(3, self.clean, "--baseline", os.path.join(folder, "none"))
        self.assertIn("cannot be written", self.one_line(3, self.clean, "--write=json=/no/such/folder/x"))


if __name__ == "__main__":
    tracing.main()
