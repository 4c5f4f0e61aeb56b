"""The files of examples/: each is checked as far as it can be without running it."""

import configparser
import json
import os
import re
import shutil

import tracing
import validation

EXAMPLES = os.path.join(tracing.SOURCE, "examples")

def read(*parts):
    with open(os.path.join(EXAMPLES, *parts), encoding="utf-8") as file:
        return file.read()


def options_of(verb):
    """The options that `verb --help` lists."""
    return set(re.findall(r"(?m)^  (?:-\w, )?(--[a-z-]+)", tracing.leakview(verb, "--help").stdout))


class ExamplesTest(tracing.TestCase):

    def validated(self, schema, *parts):
        python = validation.python()
        if python is None:
            self.skipTest(f"pip cannot fetch {validation.PACKAGES} here")
        done = tracing.run([python, "-m", "check_jsonschema", "--builtin-schema", schema, os.path.join(EXAMPLES, *parts)])
        self.assertEqual(done.status, 0, done.stdout + done.stderr)

    def yaml(self, *parts):
        """A YAML file's documents, by the validator's own parser."""
        python = validation.python()
        if python is None:
            self.skipTest(f"pip cannot fetch {validation.PACKAGES} here")
        script = "import json, sys\nfrom ruamel.yaml import YAML\n" \
                 "print(json.dumps(list(YAML(typ='safe').load_all(open(sys.argv[1])))))"
        done = tracing.run([python, "-c", script, os.path.join(EXAMPLES, *parts)])
        self.assertEqual(done.status, 0, done.stderr)
        return json.loads(done.stdout)

    def assert_options(self, text, verb):
        """Every option in `text` is one of the verb's."""
        used = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))
        self.assertTrue(used, text)
        self.assertLessEqual(used, options_of(verb))

    def test_workflow(self):
        self.validated("vendor.github-workflows", "ci", "memory.yml")

    def test_workflows_command(self):
        command = re.search(r"soak --server.*?(?=\s--\s)", read("ci", "memory.yml"), re.DOTALL).group(0)
        self.assert_options(command, "soak")

    def test_workflows_budgets(self):
        done = tracing.leakview("check", "--budget", os.path.join(EXAMPLES, "ci", "memory-budget.yaml"), "/no/such/trace")
        self.assertEqual(done.status, 3, done.stderr)  # the file is fine, the trace is not there

    def test_systemd(self):
        settings = configparser.ConfigParser(strict=False, interpolation=None, delimiters=("=",))
        settings.optionxform = str
        settings.read_string(read("systemd", "ollamatrace.conf"))
        self.assertEqual(settings.sections(), ["Service"])
        unit = read("systemd", "ollamatrace-watch.service")
        self.assert_options(re.search(r"leakview watch (.*?)--on-breach", unit, re.DOTALL).group(1), "watch")
        program = "/usr/bin/systemd-analyze"
        if os.path.exists(program):
            path = os.path.join(self.folder(), "ollamatrace-watch.service")
            with open(path, "w", encoding="utf-8") as file:
                file.write(unit.replace("/usr/local/bin/ollama-leakview", tracing.LEAKVIEW))
            done = tracing.run([program, "verify", "--man=no", path])
            self.assertNotIn(b"Unknown key", done.stderr)
            self.assertNotIn(b"Failed to parse", done.stderr)

    def test_compose(self):
        self.validated("vendor.compose-spec", "compose", "compose.yaml")

    def test_compose_mounts_what_is_there(self):
        services = self.yaml("compose", "compose.yaml")[0]["services"]
        for service in services.values():
            for volume in service.get("volumes", []):
                source = volume.split(":")[0]
                if source.startswith("./"):
                    self.assertTrue(os.path.exists(os.path.join(EXAMPLES, "compose", source)), source)
        self.assert_options(" ".join(services["watch"]["command"]), "watch")
        self.assert_options(" ".join(services["watch"]["healthcheck"]["test"]), "watch")

    def test_image_has_the_libraries(self):
        """What ollama-leakview needs is among the packages that the image installs, or in every image of Debian 12."""
        with open("/etc/os-release", encoding="utf-8") as file:
            if 'VERSION_ID="12"' not in file.read() or "clang" in tracing.BUILD:
                self.skipTest("the image's packages are those of Debian 12")
        installed = set(re.search(r"--no-install-recommends(.*?)&&", read("compose", "Dockerfile"), re.DOTALL).group(1).split())
        needed = re.findall(rb"NEEDED.*\[(.*)\]", tracing.run(["readelf", "-d", tracing.LEAKVIEW]).stdout)
        self.assertTrue(needed)
        for library in needed:
            owners = tracing.run(["dpkg-query", "--search", f"*/{library.decode()}"]).stdout.decode()
            packages = {line.split(":")[0] for line in owners.splitlines()}
            always = {"libc6", "libgcc-s1", "libstdc++6", "zlib1g"}
            self.assertTrue(packages & (installed | always), f"{library.decode()} is of {packages}")

    def test_kubernetes(self):
        python = validation.python()
        if python is not None:
            done = tracing.run([python, "-m", "kubernetes_validate", "--strict",
                                os.path.join(EXAMPLES, "kubernetes", "ollama.yaml")])
            self.assertEqual(done.status, 0, done.stdout + done.stderr)
        (deployment,) = self.yaml("kubernetes", "ollama.yaml")
        self.assertEqual((deployment["apiVersion"], deployment["kind"]), ("apps/v1", "Deployment"))
        pod = deployment["spec"]["template"]["spec"]
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["initContainers"] + pod["containers"]:
            self.assertLessEqual({mount["name"] for mount in container["volumeMounts"]}, volumes)
        self.assertEqual(deployment["spec"]["selector"]["matchLabels"], deployment["spec"]["template"]["metadata"]["labels"])
        self.assert_options(" ".join(pod["containers"][1]["args"]), "watch")

    def test_prometheus(self):
        promtool = self.program("promtool")
        done = tracing.run([promtool, "check", "config", os.path.join(EXAMPLES, "compose", "prometheus.yml")])
        self.assertEqual(done.status, 0, done.stdout + done.stderr)

    def test_alerts_fire_when_they_should(self):
        promtool = self.program("promtool")
        folder = self.folder()
        for source in (os.path.join(EXAMPLES, "compose", "alerts.yml"), os.path.join(os.path.dirname(__file__), "alerts_test.yml")):
            shutil.copy(source, folder)
        done = tracing.run([promtool, "test", "rules", os.path.join(folder, "alerts_test.yml")])
        self.assertEqual(done.status, 0, done.stdout + done.stderr)

    def test_dashboard_and_rules_use_series_that_exist(self):
        with open(os.path.join(tracing.SOURCE, "analyzer", "watch", "metrics.cc"), encoding="utf-8") as file:
            exported = set(re.findall(r'"(ollamatrace_[a-z_]+)"', file.read()))
        dashboard = json.loads(read("compose", "grafana", "ollamatrace.json"))
        self.assertEqual(len({panel["id"] for panel in dashboard["panels"]}), len(dashboard["panels"]))
        used = {name for panel in dashboard["panels"] for target in panel["targets"]
                for name in re.findall(r"ollamatrace_[a-z_]+", target["expr"])}
        rules = re.sub(r"job=\"ollamatrace\"", "", read("compose", "alerts.yml"))
        used |= set(re.findall(r"ollamatrace_[a-z_]+", rules))
        self.assertTrue(used)
        self.assertLessEqual(used, exported)
        with open(os.path.join(tracing.SOURCE, "analyzer", "watch", "WATCH.md"), encoding="utf-8") as file:
            told = set(re.findall(r"ollamatrace_[a-z_]+", file.read()))
        self.assertEqual(exported, told)


if __name__ == "__main__":
    tracing.main()
