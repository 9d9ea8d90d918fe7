-- The pool's store, version 2 (older ones: migrations.cpp). Digests and keys are 32-byte blobs, times Unix seconds, amounts micro-credits.

CREATE TABLE pool (
  pool_id BLOB NOT NULL,
  created INTEGER NOT NULL,
  bytes_up INTEGER NOT NULL DEFAULT 0,
  bytes_down INTEGER NOT NULL DEFAULT 0,
  restored INTEGER DEFAULT 0  -- when it last went on from a backup, 0: never; null: a backup that nobody opened yet
);
CREATE TABLE refusals (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;

-- Who takes part.
CREATE TABLE accounts (
  name TEXT PRIMARY KEY,
  token_hash BLOB NOT NULL,  -- SHA-256 of the enrolment token
  created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE rigs (
  key BLOB PRIMARY KEY,
  rig_id TEXT NOT NULL,
  account TEXT NOT NULL REFERENCES accounts,
  agent TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'revoked', 'barred')),
  reason TEXT NOT NULL DEFAULT '',
  enrolled INTEGER NOT NULL,
  last_seen INTEGER NOT NULL,
  tokens_per_second REAL NOT NULL DEFAULT 0,
  rejected INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE instances (  -- starts of an agent; the highest sequence of a key is the one that is served
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  key BLOB NOT NULL REFERENCES rigs,
  instance TEXT NOT NULL,
  UNIQUE (key, instance)
);
CREATE TABLE nonces (key BLOB NOT NULL, nonce TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (key, nonce))
  WITHOUT ROWID;
CREATE INDEX nonces_by_end ON nonces (until);

-- Files of the folder `blobs`. A row whose digest nothing refers to (view referenced_blobs) is collected.
CREATE TABLE blobs (digest BLOB PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE datasets (
  name TEXT PRIMARY KEY,
  vocabulary INTEGER NOT NULL,  -- largest token + 1
  format TEXT NOT NULL,
  created INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE shards (
  dataset TEXT NOT NULL REFERENCES datasets,
  split TEXT NOT NULL CHECK (split IN ('train', 'validation')),
  number INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  PRIMARY KEY (dataset, split, number)
) WITHOUT ROWID;
CREATE INDEX shards_by_digest ON shards (digest);

CREATE TABLE jobs (
  name TEXT PRIMARY KEY,
  document TEXT NOT NULL,  -- canonical JSON of the description
  signature BLOB NOT NULL,
  digest BLOB NOT NULL,
  state TEXT NOT NULL CHECK (state IN ('running', 'paused', 'unfunded', 'diverged', 'completed', 'cancelled')),
  detail TEXT NOT NULL DEFAULT '',
  budget INTEGER NOT NULL DEFAULT 0,  -- all that the treasury gave it
  rounds_done INTEGER NOT NULL DEFAULT 0,
  created INTEGER NOT NULL,
  last_round_closed INTEGER NOT NULL DEFAULT 0,
  pause_after INTEGER,  -- rounds after which it pauses; null: it goes on to its end
  rejected INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE job_files (  -- of the model folder that a job started from: tokenizer and the like, given back by export
  job TEXT NOT NULL REFERENCES jobs,
  name TEXT NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (job, name)
) WITHOUT ROWID;
CREATE INDEX job_files_by_digest ON job_files (digest);

CREATE TABLE rounds (
  job TEXT NOT NULL REFERENCES jobs,
  round INTEGER NOT NULL,
  opened INTEGER NOT NULL,
  closed INTEGER,  -- null: open, and what follows is null too
  tokens INTEGER,
  loss REAL,  -- mean over the units
  document TEXT,
  signature BLOB,
  digest BLOB,
  PRIMARY KEY (job, round)
) WITHOUT ROWID;
CREATE TABLE weights (  -- model.safetensors of the weights of a round; 0 are the initial ones
  job TEXT NOT NULL REFERENCES jobs,
  round INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  kept INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (job, round)
) WITHOUT ROWID;
CREATE INDEX weights_by_digest ON weights (digest) WHERE kept;
CREATE TABLE updates (  -- turn the weights of `round` into those of the next
  job TEXT NOT NULL REFERENCES jobs,
  round INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  kept INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (job, round)
) WITHOUT ROWID;
CREATE INDEX updates_by_digest ON updates (digest) WHERE kept;
CREATE TABLE outer_states (  -- of the outer optimiser after the last closed round: flat fp32 files
  job TEXT PRIMARY KEY REFERENCES jobs,
  momentum BLOB NOT NULL,
  variance BLOB,
  residual BLOB NOT NULL
) WITHOUT ROWID;

CREATE TABLE units (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL UNIQUE,
  job TEXT NOT NULL REFERENCES jobs,
  round INTEGER NOT NULL,
  kind TEXT NOT NULL CHECK (kind IN ('train', 'evaluate')),
  number INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  price INTEGER NOT NULL,
  max_result_bytes INTEGER NOT NULL,
  accepted INTEGER REFERENCES results,  -- null: open
  UNIQUE (job, round, kind, number)
);
CREATE INDEX units_open ON units (job, kind, round) WHERE accepted IS NULL;

CREATE TABLE leases (
  id TEXT PRIMARY KEY,
  unit INTEGER NOT NULL REFERENCES units,
  attempt INTEGER NOT NULL,
  key BLOB NOT NULL REFERENCES rigs,
  request_id TEXT NOT NULL,
  replay INTEGER NOT NULL,  -- 1: repeats an accepted unit for a check
  given INTEGER NOT NULL,
  expires INTEGER NOT NULL,   -- unless renewed
  deadline INTEGER NOT NULL,
  estimate REAL NOT NULL,     -- seconds that the unit should take this rig
  state TEXT NOT NULL DEFAULT 'held' CHECK (state IN ('held', 'released', 'submitted', 'refused')),
  ended INTEGER,
  UNIQUE (unit, attempt)
) WITHOUT ROWID;
CREATE INDEX leases_by_key ON leases (key, state);
CREATE INDEX leases_out ON leases (unit) WHERE state = 'held';

CREATE TABLE results (
  id INTEGER PRIMARY KEY,
  unit INTEGER NOT NULL REFERENCES units,
  attempt INTEGER NOT NULL,
  key BLOB NOT NULL REFERENCES rigs,
  account TEXT NOT NULL,
  outcome TEXT NOT NULL CHECK (outcome IN ('accepted', 'superseded', 'diverged')),
  claim BLOB NOT NULL,    -- what is compared: the result's digest, or that of a divergence
  digest BLOB,            -- null: diverged
  segments_root BLOB,
  loss REAL,
  norm REAL,
  tokens INTEGER NOT NULL,
  price INTEGER NOT NULL,
  pay TEXT NOT NULL CHECK (pay IN ('none', 'escrowed', 'settled', 'voided')),
  submitted INTEGER NOT NULL,
  receipt TEXT NOT NULL,
  signature BLOB NOT NULL,
  evidence_base TEXT NOT NULL,
  evidence_signature BLOB NOT NULL,
  evidence_body BLOB NOT NULL,
  kept INTEGER NOT NULL,  -- the blob is kept
  UNIQUE (unit, attempt)
);
CREATE INDEX results_by_key ON results (key);
CREATE INDEX results_by_digest ON results (digest) WHERE kept;
CREATE INDEX results_escrowed ON results (unit) WHERE pay = 'escrowed';

CREATE TABLE checks (  -- a unit that another account repeats
  unit INTEGER PRIMARY KEY REFERENCES units,
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'passed', 'failed', 'expired')),
  opened INTEGER NOT NULL,
  closed INTEGER
);
CREATE INDEX checks_open ON checks (unit) WHERE state = 'open';

CREATE TABLE settlements (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  key BLOB NOT NULL REFERENCES rigs,
  result INTEGER NOT NULL UNIQUE REFERENCES results,
  document TEXT NOT NULL,
  signature BLOB NOT NULL
);
CREATE INDEX settlements_by_key ON settlements (key, sequence);

-- Double entry. A transaction's postings are inserted first, then the transaction itself, which is refused unless they
-- sum to zero; after that nothing can be added, changed or removed.
CREATE TABLE ledger_transactions (
  id INTEGER PRIMARY KEY,
  idempotency_key TEXT NOT NULL UNIQUE,
  time INTEGER NOT NULL
);
CREATE TABLE ledger_postings (
  id INTEGER PRIMARY KEY,
  transaction_id INTEGER NOT NULL REFERENCES ledger_transactions DEFERRABLE INITIALLY DEFERRED,
  account TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer')
);
CREATE INDEX ledger_postings_by_transaction ON ledger_postings (transaction_id);
CREATE INDEX ledger_postings_by_account ON ledger_postings (account);
CREATE TABLE ledger_balances (account TEXT PRIMARY KEY, amount INTEGER NOT NULL) WITHOUT ROWID;  -- sums of postings

CREATE TRIGGER ledger_sums_to_zero BEFORE INSERT ON ledger_transactions
WHEN (SELECT coalesce(sum(amount), 1) FROM ledger_postings WHERE transaction_id = new.id) <> 0
BEGIN SELECT raise(ABORT, 'a ledger transaction must sum to zero'); END;
CREATE TRIGGER ledger_is_closed BEFORE INSERT ON ledger_postings
WHEN EXISTS (SELECT 1 FROM ledger_transactions WHERE id = new.transaction_id)
BEGIN SELECT raise(ABORT, 'a ledger transaction is closed once it is posted'); END;
CREATE TRIGGER ledger_balance AFTER INSERT ON ledger_postings
BEGIN
  INSERT INTO ledger_balances VALUES (new.account, new.amount)
    ON CONFLICT (account) DO UPDATE SET amount = amount + excluded.amount;
END;
CREATE TRIGGER ledger_transactions_stay BEFORE UPDATE ON ledger_transactions
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_transactions_last BEFORE DELETE ON ledger_transactions
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_postings_stay BEFORE UPDATE ON ledger_postings
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_postings_last BEFORE DELETE ON ledger_postings
BEGIN SELECT raise(ABORT, 'the ledger is append-only'); END;

CREATE VIEW published_blobs AS
  SELECT digest FROM shards
  UNION ALL SELECT digest FROM weights WHERE kept
  UNION ALL SELECT digest FROM updates WHERE kept;
CREATE VIEW referenced_blobs AS
  SELECT digest FROM published_blobs
  UNION ALL SELECT digest FROM results WHERE kept AND digest IS NOT NULL
  UNION ALL SELECT digest FROM job_files
  UNION ALL SELECT momentum FROM outer_states
  UNION ALL SELECT variance FROM outer_states WHERE variance IS NOT NULL
  UNION ALL SELECT residual FROM outer_states;
