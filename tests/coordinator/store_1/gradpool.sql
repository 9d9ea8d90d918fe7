PRAGMA foreign_keys=OFF;
BEGIN TRANSACTION;
CREATE TABLE pool (
  pool_id BLOB NOT NULL,
  created INTEGER NOT NULL,
  bytes_up INTEGER NOT NULL DEFAULT 0,
  bytes_down INTEGER NOT NULL DEFAULT 0
);
INSERT INTO pool VALUES(X'9a086c8db596eb8a0d077874f8f4fa167a3b53cbf833e9fcb033dc08a8a0afe9',1700000000,0,0);
CREATE TABLE refusals (name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE accounts (
  name TEXT PRIMARY KEY,
  token_hash BLOB NOT NULL,  -- SHA-256 of the enrolment token
  created INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO accounts VALUES('alice',X'ccaafe6dc13cacc6b6fe4260634d6f57e78ed9c1176c9fad075cb9f4232ff6b1',1700000000);
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
INSERT INTO rigs VALUES(X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','rig','alice','gradminer/0.1.0','active','',1700000000,1700000000,2080.0,0);
CREATE TABLE instances (  -- starts of an agent; the highest sequence of a key is the one that is served
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  key BLOB NOT NULL REFERENCES rigs,
  instance TEXT NOT NULL,
  UNIQUE (key, instance)
);
INSERT INTO instances VALUES(1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','e6d7431f65c8eed75298b4d219358dac');
CREATE TABLE nonces (key BLOB NOT NULL, nonce TEXT NOT NULL, until INTEGER NOT NULL, PRIMARY KEY (key, nonce))
  WITHOUT ROWID;
INSERT INTO nonces VALUES(X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','15ac5a545ee7f499a2e06f94336c7cee',1700000600);
INSERT INTO nonces VALUES(X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','4690e9477ad5133470c5d7aea2aafc11',1700000600);
INSERT INTO nonces VALUES(X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','b23e88ac36421cdcadcc6da56b695d96',1700000600);
INSERT INTO nonces VALUES(X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','be6e8e3c0fa1290db73852ebc869cc70',1700000600);
CREATE TABLE blobs (digest BLOB PRIMARY KEY, bytes INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO blobs VALUES(X'2fe4f4bd4e60397879898b264e1d6ada341c251564cdab97af17fdc35e49914f',1202);
INSERT INTO blobs VALUES(X'41ba527d5146ecc761067643f6a0f67d3fdda506b28dbe9608c406303595fa76',1756);
INSERT INTO blobs VALUES(X'5c5fe36c03f5e844701f27ab7cb34d36a936dfc3f9d1c681816b17b83d79f8c3',12256);
INSERT INTO blobs VALUES(X'5c7079be838f5c0ebfc833fcddd9c12dd412ffb4dc24b90dc330708b38518155',13704);
INSERT INTO blobs VALUES(X'88e3852a33a2acc0b95bbdb5b12048d51ce6c1fff0a29a9b578af2afe5828f82',13704);
INSERT INTO blobs VALUES(X'ba19eb9a9c14c8b172bdd5648f2f04ca8050c0729f5bc63ae98cd525e74d7c88',1756);
INSERT INTO blobs VALUES(X'bde0b6f6d5e2153fce397bc36ae8fd421f574d0d9e768bcd84fa8ba496ac4e21',1756);
INSERT INTO blobs VALUES(X'be8c5e953095fa8c7f3ef9c7ac101962d53cbd97cc340581c82b424d936847c6',40);
INSERT INTO blobs VALUES(X'd708191feb376a58b1968bca6f172e4ad7dcaf5d35626dc8394fb092760cecad',10808);
INSERT INTO blobs VALUES(X'e5cd6e63008def03faa0a68aa8ac5f84306683df81c185ccf223e00a2e433d64',12256);
CREATE TABLE datasets (
  name TEXT PRIMARY KEY,
  vocabulary INTEGER NOT NULL,  -- largest token + 1
  format TEXT NOT NULL,
  created INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO datasets VALUES('text',256,'text',1700000000);
CREATE TABLE shards (
  dataset TEXT NOT NULL REFERENCES datasets,
  split TEXT NOT NULL CHECK (split IN ('train', 'validation')),
  number INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  tokens INTEGER NOT NULL,
  PRIMARY KEY (dataset, split, number)
) WITHOUT ROWID;
INSERT INTO shards VALUES('text','train',0,X'd708191feb376a58b1968bca6f172e4ad7dcaf5d35626dc8394fb092760cecad',10808,5404);
INSERT INTO shards VALUES('text','validation',0,X'2fe4f4bd4e60397879898b264e1d6ada341c251564cdab97af17fdc35e49914f',1202,601);
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
INSERT INTO jobs VALUES('tiny','{"batch":2,"check_share_ppm":0,"clip_norm":0.0,"codec":"int4","context":8,"evaluate_every":2,"evaluate_rows":130,"initial_weights":{"bytes":13704,"digest":"5c7079be838f5c0ebfc833fcddd9c12dd412ffb4dc24b90dc330708b38518155"},"inner":{"beta1":0.9,"beta2":0.95,"epsilon":1e-08,"lr":0.01,"max_grad_norm":0.0,"name":"adamw","warmup_steps":0,"weight_decay":0.0},"job":"tiny","lanes_per_unit":1,"model":{"activation_function":"gelu_new","architectures":["GPT2LMHeadModel"],"attn_pdrop":0.0,"bos_token_id":null,"embd_pdrop":0.0,"eos_token_id":null,"layer_norm_epsilon":1e-05,"model_type":"gpt2","n_embd":8,"n_head":2,"n_inner":32,"n_layer":1,"n_positions":16,"resid_pdrop":0.0,"tie_word_embeddings":true,"torch_dtype":"float32","vocab_size":256},"outer":{"lr":0.7,"momentum":0.6,"name":"nesterov","warmup_rounds":0},"parameters":3064,"pool_id":"9a086c8db596eb8a0d077874f8f4fa167a3b53cbf833e9fcb033dc08a8a0afe9","price":"1000","price_evaluate":"7","price_train":"1","profile":"exact-fp32/1","rounds":3,"seed":"7","steps":2,"train":[{"bytes":10808,"digest":"d708191feb376a58b1968bca6f172e4ad7dcaf5d35626dc8394fb092760cecad","tokens":5404}],"type":"job","units_per_round":2,"validation":[{"bytes":1202,"digest":"2fe4f4bd4e60397879898b264e1d6ada341c251564cdab97af17fdc35e49914f","tokens":601}],"version":1}',X'021bf7c107d62aa88942db405c592ddfa4e01e201a52b120b387d841d8bbaab2abb6a490e5599ccf9056400d199909d8c70f1cc9da84c23b89a8cca5e368b004',X'f12d46fcfe747b1daa5f8ea43c5db36e691471a141c44a20760ee57ce0f4e8c9','running','',27,1,1700000000,1700000000,NULL,0);
CREATE TABLE job_files (  -- of the model folder that a job started from: tokenizer and the like, given back by export
  job TEXT NOT NULL REFERENCES jobs,
  name TEXT NOT NULL,
  digest BLOB NOT NULL,
  PRIMARY KEY (job, name)
) WITHOUT ROWID;
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
INSERT INTO rounds VALUES('tiny',0,1700000000,1700000000,64,5.5220923423767089843,'{"checkpoint":{"bytes":13704,"digest":"88e3852a33a2acc0b95bbdb5b12048d51ce6c1fff0a29a9b578af2afe5828f82","round":1},"job":"tiny","job_digest":"f12d46fcfe747b1daa5f8ea43c5db36e691471a141c44a20760ee57ce0f4e8c9","pool_id":"9a086c8db596eb8a0d077874f8f4fa167a3b53cbf833e9fcb033dc08a8a0afe9","previous":"0000000000000000000000000000000000000000000000000000000000000000","round":0,"state":"cc708db23f99d22697a3905e008b65f3de0cca03ba563dc2470f08e79b0a905d","time":1700000000,"tokens":64,"type":"round","units_root":"85b081884fce7225b79673864fe11878bd545e8184ef4c3a032218c6a44151a2","update":{"bytes":1756,"digest":"ba19eb9a9c14c8b172bdd5648f2f04ca8050c0729f5bc63ae98cd525e74d7c88"},"version":1,"weights":"88e3852a33a2acc0b95bbdb5b12048d51ce6c1fff0a29a9b578af2afe5828f82"}',X'cefcedc3a78041e634c75c61a2efccd91c0b986f12d79ed45821e4ada86b040f3a3e757af7b20214d96bcb56491cd4b6f33bfa71b3dc924c0ddbff9b26c2fd0a',X'04413e6295be2f16b60df2ae7dda061fc99afd4097b2dcf1b8c3a4adada7eb60');
INSERT INTO rounds VALUES('tiny',1,1700000000,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE weights (  -- model.safetensors of the weights of a round; 0 are the initial ones
  job TEXT NOT NULL REFERENCES jobs,
  round INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  kept INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (job, round)
) WITHOUT ROWID;
INSERT INTO weights VALUES('tiny',0,X'5c7079be838f5c0ebfc833fcddd9c12dd412ffb4dc24b90dc330708b38518155',13704,1);
INSERT INTO weights VALUES('tiny',1,X'88e3852a33a2acc0b95bbdb5b12048d51ce6c1fff0a29a9b578af2afe5828f82',13704,1);
CREATE TABLE updates (  -- turn the weights of `round` into those of the next
  job TEXT NOT NULL REFERENCES jobs,
  round INTEGER NOT NULL,
  digest BLOB NOT NULL,
  bytes INTEGER NOT NULL,
  kept INTEGER NOT NULL DEFAULT 1,
  PRIMARY KEY (job, round)
) WITHOUT ROWID;
INSERT INTO updates VALUES('tiny',0,X'ba19eb9a9c14c8b172bdd5648f2f04ca8050c0729f5bc63ae98cd525e74d7c88',1756,1);
CREATE TABLE outer_states (  -- of the outer optimiser after the last closed round: flat fp32 files
  job TEXT PRIMARY KEY REFERENCES jobs,
  momentum BLOB NOT NULL,
  variance BLOB,
  residual BLOB NOT NULL
) WITHOUT ROWID;
INSERT INTO outer_states VALUES('tiny',X'5c5fe36c03f5e844701f27ab7cb34d36a936dfc3f9d1c681816b17b83d79f8c3',NULL,X'e5cd6e63008def03faa0a68aa8ac5f84306683df81c185ccf223e00a2e433d64');
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
INSERT INTO units VALUES(1,'tiny.0.t0','tiny',0,'train',0,32,1,1756,1);
INSERT INTO units VALUES(2,'tiny.0.t1','tiny',0,'train',1,32,1,1756,2);
INSERT INTO units VALUES(3,'tiny.0.e0','tiny',0,'evaluate',0,1040,7,40,3);
INSERT INTO units VALUES(4,'tiny.1.t0','tiny',1,'train',0,32,1,1756,NULL);
INSERT INTO units VALUES(5,'tiny.1.t1','tiny',1,'train',1,32,1,1756,NULL);
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
INSERT INTO leases VALUES('287d019ff71c29bbfccdd6cfb85e35a2',2,1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','d03e5decc0c7df6b8a282b1aad35d228',0,1700000000,1700000060,1700000300,0.00060057600000000001781,'submitted',1700000000);
INSERT INTO leases VALUES('908002849310e2f1e8e7c4b1c8505b75',3,1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','a373f646c3984faaf2e6616253893d57',0,1700000000,1700000060,1700000300,0.00650623999999999994,'submitted',1700000000);
INSERT INTO leases VALUES('a9cfa6d649295c1dbf08affa45167052',1,1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','f0c35208de58cec1841a0cfcbfbd1dc0',0,1700000000,1700000060,1700000300,0.00060057600000000001781,'submitted',1700000000);
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
INSERT INTO results VALUES(1,1,1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','alice','accepted',X'bde0b6f6d5e2153fce397bc36ae8fd421f574d0d9e768bcd84fa8ba496ac4e21',X'bde0b6f6d5e2153fce397bc36ae8fd421f574d0d9e768bcd84fa8ba496ac4e21',X'61105ef855c4f357dce8901bf016b9edd6111ac67d1fb22869a798bb2b285703',5.5229558944702148437,0.89862912893295288085,32,1,'escrowed',1700000000,'{"account":"alice","attempt":1,"job":"tiny","outcome":"accepted","pool_id":"9a086c8db596eb8a0d077874f8f4fa167a3b53cbf833e9fcb033dc08a8a0afe9","price":"1","result":"bde0b6f6d5e2153fce397bc36ae8fd421f574d0d9e768bcd84fa8ba496ac4e21","rig":"02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee","round":0,"segments_root":"61105ef855c4f357dce8901bf016b9edd6111ac67d1fb22869a798bb2b285703","time":1700000000,"tokens":32,"type":"receipt","unit":"tiny.0.t0","version":1}',X'52c526e3d70e1835d9572f28a540b84be28fa4d828e94fe07e98832dc7616fea2e6ee37673a985cded39904a8cce484a13319aa85f6358966ac0aa5ccbd13c0f','"@method": POST',X'00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000','{}',1);
INSERT INTO results VALUES(2,2,1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','alice','accepted',X'41ba527d5146ecc761067643f6a0f67d3fdda506b28dbe9608c406303595fa76',X'41ba527d5146ecc761067643f6a0f67d3fdda506b28dbe9608c406303595fa76',X'f4c9cfc61113b7d19b05fbe0344753dabab1c37a9da929ad4a78271eeb6e8451',5.521228790283203125,0.88351953029632568359,32,1,'escrowed',1700000000,'{"account":"alice","attempt":1,"job":"tiny","outcome":"accepted","pool_id":"9a086c8db596eb8a0d077874f8f4fa167a3b53cbf833e9fcb033dc08a8a0afe9","price":"1","result":"41ba527d5146ecc761067643f6a0f67d3fdda506b28dbe9608c406303595fa76","rig":"02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee","round":0,"segments_root":"f4c9cfc61113b7d19b05fbe0344753dabab1c37a9da929ad4a78271eeb6e8451","time":1700000000,"tokens":32,"type":"receipt","unit":"tiny.0.t1","version":1}',X'11302c12ce4d9a2178ecca2376445eef62858c9dc3ca43339f87dc047a2131e542368cfb943c92a74b54411b18addc6c17026c34eec7d68ed50960923b1cd509','"@method": POST',X'00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000','{}',1);
INSERT INTO results VALUES(3,3,1,X'02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee','alice','accepted',X'be8c5e953095fa8c7f3ef9c7ac101962d53cbd97cc340581c82b424d936847c6',X'be8c5e953095fa8c7f3ef9c7ac101962d53cbd97cc340581c82b424d936847c6',X'6049dd6751cc6b1d283ccd261efd4caa544323247cedc9fedd52220fdcb8f193',5.5392026901245117187,0.0,1040,7,'escrowed',1700000000,'{"account":"alice","attempt":1,"job":"tiny","outcome":"accepted","pool_id":"9a086c8db596eb8a0d077874f8f4fa167a3b53cbf833e9fcb033dc08a8a0afe9","price":"7","result":"be8c5e953095fa8c7f3ef9c7ac101962d53cbd97cc340581c82b424d936847c6","rig":"02cc23c8edbb5b3100b03467f19342b710fef4bfb76930f49e7b788b013b45ee","round":0,"segments_root":"6049dd6751cc6b1d283ccd261efd4caa544323247cedc9fedd52220fdcb8f193","time":1700000000,"tokens":1040,"type":"receipt","unit":"tiny.0.e0","version":1}',X'6574a334aa912c40be25e8c7ab5463e2486f0f6453f9f46cb72663157ad9b2e74f6465539bdb0c6eac8e1ed02002a45a273a52401a784c7e245d68336c90b603','"@method": POST',X'00000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000','{}',1);
CREATE TABLE checks (  -- a unit that another account repeats
  unit INTEGER PRIMARY KEY REFERENCES units,
  state TEXT NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'passed', 'failed', 'expired')),
  opened INTEGER NOT NULL,
  closed INTEGER
);
CREATE TABLE settlements (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT,
  key BLOB NOT NULL REFERENCES rigs,
  result INTEGER NOT NULL UNIQUE REFERENCES results,
  document TEXT NOT NULL,
  signature BLOB NOT NULL
);
CREATE TABLE ledger_transactions (
  id INTEGER PRIMARY KEY,
  idempotency_key TEXT NOT NULL UNIQUE,
  time INTEGER NOT NULL
);
INSERT INTO ledger_transactions VALUES(1,'fund:tiny',1700000000);
INSERT INTO ledger_transactions VALUES(2,'accept:1',1700000000);
INSERT INTO ledger_transactions VALUES(3,'accept:2',1700000000);
INSERT INTO ledger_transactions VALUES(4,'accept:3',1700000000);
CREATE TABLE ledger_postings (
  id INTEGER PRIMARY KEY,
  transaction_id INTEGER NOT NULL REFERENCES ledger_transactions DEFERRABLE INITIALLY DEFERRED,
  account TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (typeof(amount) = 'integer')
);
INSERT INTO ledger_postings VALUES(1,1,'treasury',-27);
INSERT INTO ledger_postings VALUES(2,1,'job:tiny',27);
INSERT INTO ledger_postings VALUES(3,2,'job:tiny',-1);
INSERT INTO ledger_postings VALUES(4,2,'escrow:alice',1);
INSERT INTO ledger_postings VALUES(5,3,'job:tiny',-1);
INSERT INTO ledger_postings VALUES(6,3,'escrow:alice',1);
INSERT INTO ledger_postings VALUES(7,4,'job:tiny',-7);
INSERT INTO ledger_postings VALUES(8,4,'escrow:alice',7);
CREATE TABLE ledger_balances (account TEXT PRIMARY KEY, amount INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO ledger_balances VALUES('escrow:alice',9);
INSERT INTO ledger_balances VALUES('job:tiny',18);
INSERT INTO ledger_balances VALUES('treasury',-27);
DELETE FROM sqlite_sequence;
INSERT INTO sqlite_sequence VALUES('instances',3);
CREATE INDEX nonces_by_end ON nonces (until);
CREATE INDEX shards_by_digest ON shards (digest);
CREATE INDEX job_files_by_digest ON job_files (digest);
CREATE INDEX weights_by_digest ON weights (digest) WHERE kept;
CREATE INDEX updates_by_digest ON updates (digest) WHERE kept;
CREATE INDEX units_open ON units (job, kind, round) WHERE accepted IS NULL;
CREATE INDEX leases_by_key ON leases (key, state);
CREATE INDEX leases_out ON leases (unit) WHERE state = 'held';
CREATE INDEX results_by_key ON results (key);
CREATE INDEX results_by_digest ON results (digest) WHERE kept;
CREATE INDEX results_escrowed ON results (unit) WHERE pay = 'escrowed';
CREATE INDEX checks_open ON checks (unit) WHERE state = 'open';
CREATE INDEX settlements_by_key ON settlements (key, sequence);
CREATE INDEX ledger_postings_by_transaction ON ledger_postings (transaction_id);
CREATE INDEX ledger_postings_by_account ON ledger_postings (account);
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
COMMIT;
