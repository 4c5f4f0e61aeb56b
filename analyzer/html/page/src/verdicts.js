// The verdicts in plain words; analyzer/diagnose/VERDICTS.md has them in full.

export const kVerdictWords = {
  leak: 'grows to the end, and its old blocks stay',
  'growth-per-request': 'grows with the requests, though its blocks are replaced',
  'retained-after-unload': 'left over from what was unloaded',
  cache: 'turns over, or fills up to a limit',
  'high-water': 'grew to what was needed once, and stays',
  'one-time': 'allocated once, or complete since early',
  'live-at-kill': 'in use when the process was killed, or left by _exit; nothing says that it grows',
  live: 'in use; too little happened to say more',
  freed: 'freed again',
};

// What grows without end, or should not be there any more.
export const isBad = (verdict) => ['leak', 'growth-per-request', 'retained-after-unload'].includes(verdict);
