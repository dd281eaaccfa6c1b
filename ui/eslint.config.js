import js from '@eslint/js'
import svelte from 'eslint-plugin-svelte'
import globals from 'globals'
import typescript from 'typescript-eslint'
import svelteConfig from './svelte.config.js'

const tauri = {
  group: ['@tauri-apps/*'],
  message: 'Only transport/ and platform/ know what shows the page.',
}
const above = (...folders) => ({
  regex: `^\\.{1,2}/(?:\\.\\./)*(?:${folders.join('|')})(?:/|$)`,
  message: 'Imports run lib <- streams, state <- features <- shell.',
})
const limits = (files, ...patterns) => ({ files, rules: { 'no-restricted-imports': ['error', { patterns }] } })

export default typescript.config(
  { ignores: ['dist/', 'node_modules/', 'src/wire/'] },
  js.configs.recommended,
  ...typescript.configs.strict,
  ...svelte.configs.recommended,
  {
    languageOptions: { globals: { ...globals.browser } },
    rules: {
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_' }],
      'svelte/no-at-html-tags': 'error',
      // The policy allows no style attributes; `style:` directives go through the CSSOM.
      'no-restricted-syntax': [
        'error',
        { selector: 'SvelteAttribute[key.name="style"]', message: 'Use a class or a style: directive.' },
      ],
      // Maps outside the reactive graph are deliberate: rows are published through versions.
      'svelte/prefer-svelte-reactivity': 'off',
      'svelte/no-navigation-without-resolve': 'off',
      'no-control-regex': 'off',
      'no-eval': 'error',
    },
  },
  {
    files: ['**/*.svelte', '**/*.svelte.ts'],
    languageOptions: { parserOptions: { parser: typescript.parser, extraFileExtensions: ['.svelte'], svelteConfig } },
  },
  { files: ['tools/**', '*.js', '*.ts'], languageOptions: { globals: { ...globals.node, ...globals.browser } } },
  limits(['src/**'], tauri),
  limits(['src/lib/**'], tauri, above('state', 'features', 'shell', 'transport', 'platform', 'streams')),
  limits(['src/streams/**', 'src/lang/**'], tauri, above('features', 'shell', 'state')),
  limits(['src/state/**'], tauri, above('features', 'shell')),
  limits(['src/features/**'], tauri, above('shell')),
  {
    files: ['src/transport/**', 'src/platform/**'],
    rules: { 'no-restricted-imports': ['error', { patterns: [above('features', 'shell')] }] },
  },
)
