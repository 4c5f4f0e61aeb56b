"""The survivors of the trace, block for block, against what valgrind's memcheck says is in use at exit.

Each program runs three times: under valgrind, and under the library in the `full` and in the default mode. The
multisets of the sizes of the live heap blocks must be the same. valgrind's list is its log of every allocation
(--trace-malloc=yes), which is held against valgrind's own "in use at exit" before it is believed.

The programs must not notice which run they are in. What they could notice, and what is done about it:
 - The environment, which some programs copy: all runs have the same variables, of the same lengths. valgrind sets
   LD_PRELOAD and two variables for libstdc++; the other runs set them too, and the library's path is made as long
   as valgrind's LD_PRELOAD.
 - The number of modules with thread-local data, from which the dynamic linker computes the size of each thread's
   table (a heap block): valgrind's runs preload a module that has some and does nothing.
 - Addresses and random numbers: only programs, and options of them, whose allocations do not depend on these.
 - libc's own end of its life (run-libc-freeres): off, as it does not happen in a normal exit.
Not compared are programs for which the two can't agree: those that pvalloc (valgrind has none), those whose
operator new fails (valgrind aborts them), and those with a malloc of their own.
"""

import collections
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile

BIN = os.environ['EXACTNESS_BIN']
LIBRARY = os.environ['OLLAMATRACE_LIB']
STAND_IN = os.environ['EXACTNESS_STAND_IN']
# Debian's `valgrind` is a script that sets variables of its own around this.
VALGRIND = shutil.which('valgrind.bin') or shutil.which('valgrind')

SCENARIOS = ('c', 'realloc', 'cxx', 'containers', 'libc', 'churn', 'threads_in_turn', 'threads_together',
             'threads_left', 'dlopen', 'underscore_exit')

PERL = '''
my %words; open(my $file, '<', 'text') or die; while (<$file>) { $words{$_}++ for split; }
for my $word (sort keys %words) { print "$word $words{$word}\\n" if $words{$word} > 2; }
my @nested = map { { name => "n$_", list => [1..$_] } } 1..50; print scalar(@nested), "\\n";
'''
PYTHON = '''
words = {}
for line in open('text'):
  for word in line.split():
    words[word] = words.get(word, 0) + 1
print(sorted(words.items())[:5], [str(i) * i for i in range(30)][3], sum(x * x for x in range(10**4)))
'''
SQL = '''create table t(a integer primary key, b text);
with recursive n(i) as (select 1 union all select i+1 from n where i < 500) insert into t select i, 'row '||i from n;
create index x on t(b); select count(*), max(b) from t where b like 'row 1%'; delete from t where a % 3 = 0;
select group_concat(a) from (select a from t order by b limit 20);'''

# Distribution programs: (name, arguments). `text` is a file of words, `tree` a folder with files.
PROGRAMS = (
    ('sed', ('-E', r's/([a-z]+) (\w+)/\2 \1/g; /of/d; $!N', 'text')),
    ('grep', ('-n', '-E', '(a|e).*(io|ou)n?', 'text')),
    ('awk', ('{ for (i = 1; i <= NF; i++) n[$i]++ } END { for (w in n) s += n[w]; print s }', 'text')),
    ('bc', ('sums.bc',)),
    ('xz', ('-c', '-3', 'text')),
    ('gzip', ('-c', 'text')),
    ('tar', ('cf', '-', 'tree')),
    ('sort', ('-k2', '-u', 'text')),
    ('diff', ('-u', 'text', 'tree/1')),
    ('find', ('tree', '-name', '*1*', '-size', '-10k')),
    ('ls', ('-lR', 'tree')),
    ('sqlite3', (':memory:', SQL)),
    ('perl', ('-e', PERL)),
    ('python3', ('-S', '-s', '-c', PYTHON)),
    ('openssl', ('version',)),
    ('openssl', ('dgst', '-sha256', 'text')),
    ('git', ('--version',)),
    ('git', ('hash-object', 'text')),
    ('cmake', ('--version',)),
    ('file', ('text', 'tree')),
    ('readelf', ('-hS', '/bin/true')),
    ('bash', ('-c', 'a=(1 2 3); for i in ${a[@]}; do x[$i]=$((i * i)); done; echo ${x[@]} $HOME')),
)
WANTED = 15


class Runner:
  """Runs a program the three ways, in the same folder and the same environment."""

  def __init__(self, scratch):
    self.scratch = scratch
    self.cwd = os.path.join(scratch, 'cwd')
    self.trace = os.path.join(scratch, 'trace')
    self.environment = {
        'PATH': '/usr/local/bin:/usr/bin:/bin', 'HOME': self.cwd, 'LANG': 'C', 'TZ': 'UTC',
        'PYTHONHASHSEED': '0', 'PYTHONMALLOC': 'malloc', 'PYTHONDONTWRITEBYTECODE': '1',
        'PERL_HASH_SEED': '0', 'PERL_PERTURB_KEYS': '0',
        'GLIBCPP_FORCE_NEW': '1', 'GLIBCXX_FORCE_NEW': '1',
        'OLLAMATRACE_DIR': self.trace,
        # No mode is called so: the default one, with a value as long as `full`.
        'OLLAMATRACE_MODE': 'none'}
    seen = self._start((VALGRIND, '-q', shutil.which('env')), LD_PRELOAD=STAND_IN)
    theirs = dict(line.split('=', 1) for line in seen.stdout.decode().splitlines())
    length = len(theirs.pop('LD_PRELOAD'))
    if theirs != self.environment:
      sys.exit('valgrind_test.py: valgrind changes the environment to %s' % theirs)
    padding = length - len('%s//libollamatrace.so' % scratch)
    if not 0 < padding < 255:
      sys.exit('valgrind_test.py: no path of %d characters in %s' % (length, scratch))
    self.library = os.path.join(scratch, 'x' * padding, 'libollamatrace.so')
    assert len(self.library) == length
    os.mkdir(os.path.dirname(self.library))
    shutil.copy(LIBRARY, self.library)

  def _start(self, argv, **environment):
    return subprocess.run(argv, cwd=self.cwd, env=dict(self.environment, **environment), check=False,
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=300)

  def warm(self, argv):
    """Whatever the first run of a program leaves in the file system is there when it counts."""
    self._start(argv)

  def valgrind(self, argv):
    """The sizes of the live blocks, as a Counter; and the exit status."""
    log = os.path.join(self.scratch, 'valgrind.log')
    result = self._start((VALGRIND, '--trace-malloc=yes', '--leak-check=no', '--run-libc-freeres=no',
                          '--run-cxx-freeres=no', '--error-exitcode=0', '--log-file=' + log) + argv,
                         LD_PRELOAD=STAND_IN)
    with open(log, encoding='utf-8', errors='replace') as file:
      return replay(file.read()), result

  def traced(self, argv, mode):
    shutil.rmtree(self.trace, ignore_errors=True)
    os.mkdir(self.trace)
    result = self._start(argv, LD_PRELOAD=self.library, OLLAMATRACE_MODE=mode)
    listed = subprocess.run((os.path.join(BIN, 'exactness_live_blocks'), self.trace), check=False,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    if listed.returncode != 0:
      raise AssertionError(listed.stderr.decode(errors='replace'))
    lines = listed.stdout.decode().splitlines()
    sizes = collections.Counter(int(line.split()[0]) for line in lines[:-1])
    total = lines[-1].split()
    if total[4] != '0' or total[6] != '0':
      raise AssertionError('%s\n%s' % (lines[-1], listed.stderr.decode(errors='replace')))
    return sizes, result


def replay(log):
  """The live blocks after valgrind's log of allocations. Raises AssertionError when it does not add up."""
  live = {}
  # One event may be told in parts: "realloc(0x0,63)malloc(63) = 0x...", "realloc(0x...,0)free(0x...)".
  for line in log.splitlines():
    if not line.startswith('--'):
      continue
    line = re.sub(r'^--\d+-- ', '', line)
    match = re.match(r'realloc\(0x([0-9A-Fa-f]+),(\d+)\)', line)
    if match and '(' not in line[match.end():]:
      result = re.search(r'= 0x([0-9A-Fa-f]+)$', line)
      if result and int(result[1], 16) != 0:
        live.pop(int(match[1], 16))
        live[int(result[1], 16)] = int(match[2])
      continue
    if match:
      line = line[match.end():]
    match = re.match(r'(\w+)\((.*)\)(?: = 0x([0-9A-Fa-f]+))?$', line)
    if not match:
      continue
    name, arguments, result = match.groups()
    if result is None:
      if re.match(r'(cfree|free|_Zd[la]Pv\w*)$', name) and int(arguments, 16) != 0:
        live.pop(int(arguments, 16))
      continue
    if int(result, 16) == 0:
      continue
    if name == 'calloc':
      count, size = arguments.split(',')
      size = int(count) * int(size)
    else:
      size = int(re.search(r'(?:size )?(\d+)(?:, al \d+)?$', arguments)[1])
    assert int(result, 16) not in live, line
    live[int(result, 16)] = size
  summary = re.search(r'in use at exit: ([\d,]+) bytes in ([\d,]+) blocks', log)
  if summary:
    told = int(summary[1].replace(',', '')), int(summary[2].replace(',', ''))
  else:
    assert 'All heap blocks were freed' in log, log[-2000:]
    told = 0, 0
  added = sum(live.values()), len(live)
  assert told == added, 'valgrind says %s, its log adds up to %s' % (told, added)
  return collections.Counter(live.values())


def prepare(folder):
  os.makedirs(os.path.join(folder, 'tree'))
  words = ('the of nation ocean motion about around question vision section union a reason onion '
           'billion station').split()
  lines = [' '.join(words[(i * 7 + j * j) % len(words)] for j in range(3 + i % 9)) for i in range(400)]
  with open(os.path.join(folder, 'text'), 'w', encoding='utf-8') as file:
    file.write('\n'.join(lines) + '\n')
  with open(os.path.join(folder, 'sums.bc'), 'w', encoding='utf-8') as file:
    file.write('scale=50\n4*a(1)\nx=1\nfor(i=1;i<60;i++) x*=i\nx\nsqrt(2)\nquit\n'.replace('4*a(1)', '22/7'))
  for i in range(30):
    with open(os.path.join(folder, 'tree', str(i)), 'w', encoding='utf-8') as file:
      file.write('\n'.join(lines[i:i * 5]) + '\n')


def difference(ours, theirs):
  lines = []
  for size in sorted(set(ours) | set(theirs)):
    if ours[size] != theirs[size]:
      lines.append('  %d bytes: %d in the trace, %d in valgrind' % (size, ours[size], theirs[size]))
  return '\n'.join(lines[:40])


def main():
  if VALGRIND is None:
    print('SKIP: no valgrind')
    return 77
  scratch = tempfile.mkdtemp(prefix='ollamatrace-exactness-')
  only = sys.argv[1:]
  equal = different = 0
  try:
    prepare(os.path.join(scratch, 'cwd'))
    runner = Runner(scratch)
    jobs = [('scenario %s' % name, (os.path.join(BIN, 'exactness_scenarios'), name)) for name in SCENARIOS]
    for name, arguments in PROGRAMS:
      path = shutil.which(name)
      if path is None:
        print('SKIP: no %s' % name)
      else:
        jobs.append((' '.join((name,) + arguments).split('\n')[0][:60], (path,) + arguments))
    for title, argv in jobs:
      if only and not any(word in title for word in only):
        continue
      runner.warm(argv)
      theirs, untraced = runner.valgrind(argv)
      good = True
      for mode in ('full', 'none'):
        name = mode if mode == 'full' else 'default'
        try:
          ours, traced = runner.traced(argv, mode)
          if (traced.returncode, traced.stdout) != (untraced.returncode, untraced.stdout):
            print('  %s: ends with %s, not %s' % (name, traced.returncode, untraced.returncode))
            good = False
          if ours != theirs:
            print('  %s:\n%s' % (name, difference(ours, theirs)))
            good = False
        except AssertionError as error:
          print('  %s: %s' % (name, error))
          good = False
      print('%s %s: %d blocks, %d bytes' % ('equal    ' if good else 'DIFFERENT', title, sum(theirs.values()),
                                            sum(size * count for size, count in theirs.items())))
      sys.stdout.flush()
      equal += good
      different += not good
  finally:
    if os.environ.get('OLLAMATRACE_KEEP'):
      print('kept in %s' % scratch)
    else:
      shutil.rmtree(scratch, ignore_errors=True)
  print('%d programs equal, %d different' % (equal, different))
  if not only and equal + different < WANTED:
    print('fewer than %d programs were compared' % WANTED)
    return 1
  return 1 if different else 0


if __name__ == '__main__':
  signal.signal(signal.SIGPIPE, signal.SIG_DFL)
  sys.exit(main())
