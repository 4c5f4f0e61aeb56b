"""Runs a command with and without libollamatrace.so, and reads what the trace says.

Every run has the same working folder, empty at its start, so that two runs differ by the library alone.
"""

import collections
import json
import os
import resource
import shutil
import signal
import subprocess
import tempfile

Run = collections.namedtuple(
    'Run', 'stdout stderr returncode files expect_lines trace_dir')


def library():
  return os.environ['OLLAMATRACE_LIB']


def leakview():
  return os.environ['OLLAMATRACE_LEAKVIEW']


class Bench:
  """A scratch folder with one working folder, used again and again, and one trace folder a run. A context manager."""

  def __init__(self):
    self.base = tempfile.mkdtemp(prefix='ollamatrace-test-')
    os.chmod(self.base, 0o755)
    self.cwd = os.path.join(self.base, 'cwd')
    self.expect_file = os.path.join(self.base, 'expect')
    self.runs = 0

  def __enter__(self):
    return self

  def __exit__(self, *_):
    shutil.rmtree(self.base, ignore_errors=True)

  def run(self, argv, mode=None, also_preload='', closed_stdio=False, environment=None, timeout=150):
    """`mode` None is without the library, else the value of OLLAMATRACE_MODE."""
    shutil.rmtree(self.cwd, ignore_errors=True)
    os.mkdir(self.cwd)
    if os.path.exists(self.expect_file):
      os.unlink(self.expect_file)
    self.runs += 1
    trace_dir = os.path.join(self.base, 'trace%d' % self.runs)
    env = {key: value for key, value in os.environ.items()
           if not key.startswith('OLLAMATRACE_') and key != 'LD_PRELOAD'}
    env['OLLAMATRACE_SYMBOL_CACHE'] = 'off'
    env.update(environment or {})
    env['EXPECT_FILE'] = self.expect_file
    preload = [also_preload] if also_preload else []
    if mode is not None:
      os.mkdir(trace_dir)
      preload.insert(0, library())
      env['OLLAMATRACE_DIR'] = trace_dir
      env['OLLAMATRACE_MODE'] = mode
    if preload:
      env['LD_PRELOAD'] = ':'.join(preload)

    def prepare():
      resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
      if closed_stdio:
        for fd in (0, 1, 2):
          os.close(fd)

    process = subprocess.Popen(argv, cwd=self.cwd, env=env, stdin=subprocess.DEVNULL,
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               start_new_session=True, preexec_fn=prepare)
    try:
      stdout, stderr = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
      os.killpg(process.pid, signal.SIGKILL)
      process.communicate()
      raise AssertionError('%s did not end within %d s (%s)' % (argv, timeout, mode or 'untraced'))
    expect_lines = []
    if os.path.exists(self.expect_file):
      with open(self.expect_file, encoding='utf-8') as file:
        expect_lines = file.read().splitlines()
    return Run(stdout, stderr, process.returncode, self._files(), expect_lines, trace_dir)

  def _files(self):
    """What the command left in its working folder: relative path -> content."""
    files = {}
    for folder, _, names in os.walk(self.cwd):
      for name in names:
        path = os.path.join(folder, name)
        with open(path, 'rb') as file:
          files[os.path.relpath(path, self.cwd)] = file.read()
    return files


def read_report(trace_dir, *options):
  """The report as a dict. Raises AssertionError when the analyzer cannot read the session."""
  result = subprocess.run([leakview(), 'report', '--format=json', *options, trace_dir],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=150, check=False)
  if result.returncode != 0:
    raise AssertionError('the analyzer ended with %d: %s' % (
        result.returncode, result.stderr.decode(errors='replace')))
  return json.loads(result.stdout)


def reasons(trace_dir):
  """What the library wrote beside its traces, and the names of all files there: to be printed when a test fails."""
  lines = []
  for name in sorted(os.listdir(trace_dir)) if os.path.isdir(trace_dir) else []:
    path = os.path.join(trace_dir, name)
    lines.append('%s %d bytes' % (name, os.path.getsize(path)))
    if name.endswith('.log'):
      with open(path, encoding='utf-8', errors='replace') as file:
        lines += ['  ' + line.rstrip() for line in file]
  return '\n'.join(lines)


def returncode_name(returncode):
  return 'signal %s' % signal.Signals(-returncode).name if returncode < 0 else 'status %d' % returncode
