// Runs in the page, after its own script: what a person does with keys and a mouse, and what comes of it.
(async () => {
  const found = {};
  const until = async good => { while (!good()) await new Promise(done => setTimeout(done, 50)); };
  const nodes = () => [...document.querySelectorAll('#mesh .node')];
  const node = name => nodes().find(one => one.dataset.name === name);
  const title = () => document.getElementById('detail-title').textContent;
  const chosen = async name => { await until(() => title() === name); return title(); };
  const press = key => document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true }));
  const click = element => element.dispatchEvent(new MouseEvent('click', { bubbles: true }));
  await until(() => nodes().length);

  found.tiles = nodes().length;
  const stops = document.querySelectorAll('#mesh [tabindex="0"]');
  if (stops.length === 1) stops[0].focus();
  press('End');
  const last = document.activeElement.dataset.name;
  while (document.activeElement.dataset.name !== 'w002') {
    press('ArrowLeft');
    if (document.activeElement.dataset.name === last) break;
  }
  press('Enter');
  found.byKey = await chosen('w002');
  click(node('w150'));
  found.byClick = await chosen('w150');
  click([...document.querySelectorAll('#rows button')].find(button => button.textContent === 'w001'));
  found.byRow = await chosen('w001');
  click(node('__proto__'));
  found.evil = await chosen('__proto__');

  const filter = document.getElementById('filter');
  filter.value = 'w01';
  filter.dispatchEvent(new Event('input'));
  found.filtered = document.querySelectorAll('#rows tr').length;
  found.star = document.querySelectorAll('#mesh [data-way]').length === 10;
  filter.value = '';
  filter.dispatchEvent(new Event('input'));
  click(document.getElementById('state-unreachable'));
  const states = [...document.querySelectorAll('#mesh [data-state]')].map(one => one.dataset.state);
  found.byState = states.length > 0 && states.every(state => state === 'unreachable');

  await fetch('/break');
  await until(() => !document.getElementById('stale').hidden);
  found.stale = document.getElementById('stale').textContent.includes('This is how it was at');
  found.owned = 'owned' in window;
  found.images = document.images.length;
  found.scripts = document.scripts.length;
  const said = document.createElement('pre');
  said.id = 'driven';
  said.textContent = JSON.stringify(found);
  document.body.append(said);
})();
