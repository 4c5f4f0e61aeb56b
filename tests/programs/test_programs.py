#!/usr/bin/env python3
"""Runs one test program untraced and traced, in each mode.

It must behave the same, byte for byte: stdout, stderr, exit status or signal, and the files it leaves. Its trace must be
readable, with no event lost unless the program says that some may be (program.h), and the survivors must be what the
program says they are.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile

import traced_run

SKIP = 77
# Mode sample with a chance of 1 - exp(-size) for each block: by the way of that mode, and exact for all but tiny blocks.
EVERY_BLOCK = 'sample:1'
TINY = 20  # bytes


class Expectation:
  """The statements of a program, see program.h."""

  def __init__(self, lines):
    self.processes = 1
    self.lossy = False
    self.survivors = {}  # (pid, function) -> [blocks or None, bytes or None]
    for line in lines:
      words = line.split()
      if not words or words[0].startswith('#'):
        continue
      if words[0] == 'processes':
        self.processes = int(words[1])
      elif words[0] == 'lossy':
        self.lossy = True
      elif words[0] == 'survivors':
        figures = [None if word == 'any' else int(word) for word in words[3:5]]
        known = self.survivors.setdefault((int(words[1]), words[2]), [0, 0])
        for i in (0, 1):
          known[i] = None if known[i] is None or figures[i] is None else known[i] + figures[i]
      else:
        raise AssertionError('the program states something unknown: ' + line)


def survivors_of(report, pid, function):
  """(blocks, bytes) of the groups of `pid` whose stack holds `function`."""
  pattern = re.compile(r'(^|[:.])%s($|[(.])' % re.escape(function))
  blocks = size = 0
  for group in report['groups']:
    if group['pid'] == pid and any(pattern.search(frame.get('function') or '') for frame in group['frames']):
      blocks += group['live_blocks']
      size += group['live_bytes']
  return blocks, size


def problems_of_trace(run, expectation, mode):
  """What the report of a traced run says otherwise than the program. An empty list is good.

  Where only some blocks are in the trace, it cannot tell how many there are, but that there are none.
  """
  draws = mode.startswith('sample:') and mode != EVERY_BLOCK
  report = traced_run.read_report(run.trace_dir)
  problems = []
  processes = report['processes']
  if len(processes) < expectation.processes:
    problems.append('%d processes in the session, at least %d expected' % (len(processes), expectation.processes))
  lost = {process['pid']: process['lost_events'] for process in processes}
  if not expectation.lossy:
    for process in processes:
      if process['lost_events'] != 0:
        problems.append('process %d (%s) lost %d events' % (process['pid'], process['exe'], process['lost_events']))
  for (pid, function), wanted in sorted(expectation.survivors.items()):
    found = survivors_of(report, pid, function)
    if expectation.lossy and lost.get(pid, 1) != 0:
      continue
    for figure, want, unit in zip(found, wanted, ('blocks', 'bytes')):
      tiny = None in wanted or wanted[1] < TINY * wanted[0]
      if want != 0 and (draws or mode == EVERY_BLOCK and tiny):
        continue
      if want is not None and figure != want:
        problems.append('%s in process %d: %d %s survive, %d expected' % (function, pid, figure, unit, want))
  return problems


def build_go(source, stripped, folder):
  """Builds the cgo program, or answers None where Go cannot."""
  go = shutil.which('go') or '/usr/local/go/bin/go'
  if not os.path.exists(go):
    return None
  program = os.path.join(folder, 'go_cgo')
  env = dict(os.environ, CGO_ENABLED='1', GO111MODULE='off', GOTOOLCHAIN='local', GOFLAGS='',
             GOCACHE=os.path.join(folder, 'go-cache'), GOPATH=os.path.join(folder, 'go-path'))
  flags = ['-ldflags', '-s -w'] if stripped else []
  result = subprocess.run([go, 'build', *flags, '-o', program, source], env=env, cwd=folder,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=400, check=False)
  if result.returncode != 0:
    print(result.stdout.decode(errors='replace'))
    return None
  return program


def run_all(arguments, argv):
  with traced_run.Bench() as bench:
    options = dict(also_preload=arguments.also_preload, closed_stdio=arguments.closed_stdio,
                   environment=dict(pair.split('=', 1) for pair in arguments.env))
    plain = bench.run(argv, None, **options)
    if plain.returncode == SKIP:
      print('the program skips itself here')
      return SKIP
    if plain.returncode != arguments.expect_status:
      print('untraced: %s, expected %d\n%s' % (traced_run.returncode_name(plain.returncode),
                                               arguments.expect_status, plain.stderr.decode(errors='replace')))
      return 1
    if arguments.untraced_only:
      print(plain.stdout.decode(errors='replace'), *plain.expect_lines, sep='\n')
      return 0
    failed = False
    for mode in arguments.modes.split(','):
      traced = bench.run(argv, mode, **options)
      problems = []
      if traced.returncode != plain.returncode:
        problems.append('ended with %s, untraced with %s' % (traced_run.returncode_name(traced.returncode),
                                                             traced_run.returncode_name(plain.returncode)))
      for name in ('stdout', 'stderr', 'files'):
        if getattr(traced, name) != getattr(plain, name):
          problems.append('%s differs\n  traced:   %r\n  untraced: %r' % (name, getattr(traced, name),
                                                                          getattr(plain, name)))
      if not arguments.no_trace_check:
        try:
          problems += problems_of_trace(traced, Expectation(traced.expect_lines), mode)
        except AssertionError as error:
          problems.append(str(error))
      for problem in problems:
        print('%s: %s' % (mode, problem))
      if problems:
        failed = True
        print(traced_run.reasons(traced.trace_dir))
    return 1 if failed else 0


def main():
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--modes', default='survivors,full,sample:1,sample:4K')
  parser.add_argument('--expect-status', type=int, default=0, help='exit status, or minus the signal')
  parser.add_argument('--also-preload', default='', help='a library to preload after ours, in all runs')
  parser.add_argument('--closed-stdio', action='store_true', help='start without descriptors 0, 1 and 2')
  parser.add_argument('--env', action='append', default=[], metavar='NAME=VALUE')
  parser.add_argument('--go', choices=['plain', 'stripped'], help='the program is Go source: build it first')
  parser.add_argument('--no-trace-check', action='store_true', help='only the behaviour is compared')
  parser.add_argument('--untraced-only', action='store_true')
  parser.add_argument('argv', nargs='+')
  arguments = parser.parse_args()
  if arguments.also_preload and not os.path.exists(arguments.also_preload):
    print('no ' + arguments.also_preload)
    return SKIP
  if arguments.go is None:
    return run_all(arguments, arguments.argv)
  folder = tempfile.mkdtemp(prefix='ollamatrace-go-')
  try:
    program = build_go(arguments.argv[0], arguments.go == 'stripped', folder)
    if program is None:
      print('no Go with cgo here')
      return SKIP
    if arguments.go == 'stripped':
      arguments.env.append('GO_STRIPPED=1')
    return run_all(arguments, [program, *arguments.argv[1:]])
  finally:
    subprocess.run(['chmod', '-R', 'u+w', folder], check=False)
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == '__main__':
  sys.exit(main())
